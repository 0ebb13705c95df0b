"""The queues between events, schedules and the functions of an emulated environment."""

from typing import Any

from emulation.cloud import Cloud
from tests.story.user import eventually


def all_is_handled(cloud: Cloud) -> None:
    """Wait until the functions have handled all that was sent to them."""
    sqs = cloud.session.client("sqs", endpoint_url=cloud.endpoint_url)

    def num_waiting() -> int:
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queues = cloud.deployment.queues.values()
        told = [sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names) for queue in queues]
        return sum(int(number) for one in told for number in one["Attributes"].values())

    eventually(num_waiting, lambda number: number == 0)
