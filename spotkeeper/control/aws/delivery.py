"""How every handler takes its batch of SQS messages, each the whole of one EventBridge event.

parsed and known      -> the handler's reaction; its outcome is logged and counted
foreign or unknown    -> acknowledged, logged with the reason, counted
not an event, or the reaction failed -> this message alone returns to the queue, in the end to the dead letters
too little time left  -> the same, before anything is done: a function that is ended takes all its messages with it
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from spotkeeper.contract import metrics as names
from spotkeeper.control.aws import binding
from spotkeeper.control.aws.client_config import LONGEST_CALL_SECONDS
from spotkeeper.control.events import Event, Ignored, parse

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

Counts = Mapping[str, float]
"""How much each metric rises, or what is measured."""

MARGIN_MILLISECONDS: Final = (LONGEST_CALL_SECONDS + 1) * 1000
"""A message is begun only if so much time is left: enough for a call that AWS does not answer."""


class OutOfTime(Exception):  # noqa: N818
    """The function would be ended before it has handled this message."""


def process(
    event: dict[str, Any],
    context: "LambdaContext",
    *,
    service: str,
    react: Callable[[Event], tuple[str, Counts]],
) -> PartialItemFailureResponse:
    """React to each message of a batch; report the failed ones only.

    Args:
        event: What Lambda's SQS event source delivers.
        context: Names the account and the region that the handler lives in; events of others are ignored.
        service: The handler's name in the log, and beside its metrics.
        react: Carries out what one event asks; returns a sentence for the log, and counts.
    """
    logger = Logger(service=service)
    # An empty service keeps Powertools from adding one as a dimension.
    metrics = Metrics(namespace=names.NAMESPACE, service="")
    metrics.add_dimension(names.ENVIRONMENT_DIMENSION, binding.environment())
    metrics.add_metadata("function", service)

    def emit(name: str, value: float) -> None:
        if value or name in names.STATES:
            metrics.add_metric(name=name, unit=names.UNITS.get(name, MetricUnit.Count.value), value=value)

    # arn:aws:lambda:<region>:<account>:function:<name>
    _, _, _, region, account, *_ = context.invoked_function_arn.split(":")

    def handle_record(record: SQSRecord) -> None:
        if context.get_remaining_time_in_millis() < MARGIN_MILLISECONDS:
            raise OutOfTime("too little time is left to begin with it")
        parsed = parse(_object(record), account=account, region=region)
        if isinstance(parsed, Ignored):
            reaction: tuple[str, Counts] = (parsed.reason, {names.EVENTS_IGNORED: 1})
        else:
            reaction = react(parsed)
        sentence, counts = reaction
        logger.info(sentence, extra={"message_id": record.message_id})
        for name, count in counts.items():
            emit(name, count)

    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
    result = process_partial_response(event=event, record_handler=handle_record, processor=processor, context=context)
    failed = result["batchItemFailures"]
    for failure, (kind, error, _) in zip(failed, processor.exceptions, strict=True):
        words = f"left in the queue: {kind.__name__ if kind else 'unknown'}: {str(error)[:500]}"
        logger.warning(words, extra={"message_id": failure["itemIdentifier"]})
    emit(names.EVENTS_RECEIVED, len(event["Records"]))
    emit(names.EVENTS_FAILED, len(failed))
    metrics.flush_metrics()
    return result


def _object(record: SQSRecord) -> dict[str, Any]:
    body = record.json_body
    if not isinstance(body, dict):
        raise TypeError(f"the message is not an EventBridge event but a {type(body).__name__}")
    return body
