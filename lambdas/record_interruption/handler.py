"""EC2 announces that it takes an instance back, or may: record it."""

from typing import TYPE_CHECKING, Any

from spotkeeper.contract import metrics
from spotkeeper.control import interruption
from spotkeeper.control.aws import binding
from spotkeeper.control.aws.delivery import Counts, process
from spotkeeper.control.events import Event, InstanceNotice

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handle(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Record every notice of the batch under its instance."""
    return process(event, context, service="record_interruption", react=_react)


def _react(event: Event) -> tuple[str, Counts]:
    if not isinstance(event, InstanceNotice):
        return f"not for this handler: {type(event).__name__}", {metrics.EVENTS_IGNORED: 1}
    interruption.record(event, ledger=binding.ledger())
    metric = metrics.INTERRUPTION_WARNINGS if event.is_warning else metrics.REBALANCE_RECOMMENDATIONS
    return f"recorded for {event.instance_id}", {metric: 1}
