"""The metrics that AWS's services report by themselves, as far as alarms read them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from emulation.alarms.metric_data import Datum, Series
from emulation.templates.deployment import Deployment

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def visible_messages(deployment: Deployment, sqs: "SQSClient", *, at: float) -> list[Datum]:
    """Return SQS's ApproximateNumberOfMessagesVisible of every queue, at this moment."""
    data = []
    for queue in deployment.queues.values():
        told = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["ApproximateNumberOfMessages"])
        series = _series("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.name)
        data.append(Datum(series=series, at=at, value=float(told["Attributes"]["ApproximateNumberOfMessages"])))
    return data


def invocations(function_name: str, ended: Iterable[tuple[float, bool]]) -> list[Datum]:
    """Return Lambda's Errors: for each invocation (Unix time, whether it failed) a 1 or a 0."""
    series = _series("AWS/Lambda", "Errors", "FunctionName", function_name)
    return [Datum(series=series, at=at, value=float(has_failed)) for at, has_failed in ended]


def _series(namespace: str, name: str, dimension: str, value: str) -> Series:
    return Series(namespace=namespace, name=name, dimensions=frozenset({(dimension, value)}))
