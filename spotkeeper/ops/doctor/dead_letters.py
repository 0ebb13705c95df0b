"""Do events lie where nobody handles them?"""

from collections.abc import Iterator

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def dead_letters_are_empty(examined: Examined) -> Iterator[Finding]:
    """No dead-letter queue of the handlers holds a message."""
    sqs = examined.client("sqs")
    for logical_id, url in examined.resources("recovery", "AWS::SQS::Queue").items():
        if "DeadLetters" not in logical_id:
            continue
        wanted = ["ApproximateNumberOfMessages", "QueueArn"]
        told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]
        if int(told["ApproximateNumberOfMessages"]):
            yield Finding(
                subject=f"dead-letter queue {url.rpartition('/')[2]}",
                value=f"{told['ApproximateNumberOfMessages']} messages",
                expected="0: each is an event that was not handled; the sweeper has repaired what followed from it",
                fix="read the function's log, then "
                + examined.aws(f"sqs start-message-move-task --source-arn {told['QueueArn']}")
                + " gives them to it again",
            )
