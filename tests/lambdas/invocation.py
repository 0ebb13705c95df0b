"""What Lambda hands to a handler of an SQS queue."""

import json
from dataclasses import dataclass
from typing import Any, cast

from aws_lambda_powertools.utilities.typing import LambdaContext

from tests.control.recorded_events import ACCOUNT, REGION


@dataclass
class Context:
    function_name: str = "handler"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:handler"
    aws_request_id: str = "request-1"
    remaining_milliseconds: int = 270_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


def context(**facts: Any) -> LambdaContext:
    return cast("LambdaContext", Context(**facts))


CONTEXT = context()


def sqs(*bodies: Any) -> dict[str, Any]:
    """Return a batch with one message a body; a body that is not text is sent as JSON."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "handle",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1",
                    "SenderId": "events",
                    "ApproximateFirstReceiveTimestamp": "1",
                },
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue",
                "awsRegion": REGION,
            }
            for number, body in enumerate(bodies, start=1)
        ]
    }


def failed(result: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in result["batchItemFailures"]]


def counted(captured: str) -> dict[str, float]:
    """Return the metrics of the one EMF line that an invocation writes."""
    (line,) = [json.loads(text) for text in captured.splitlines() if '"_aws"' in text]
    names = [metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    # CloudWatch adds up the values of an array.
    return {name: sum(line[name]) for name in names}
