"""Batch cannot place the job at the head of a queue: say so in the log, in a metric and in the run's history."""

from typing import TYPE_CHECKING, Any

from spotkeeper.contract import metrics
from spotkeeper.control import blocked_queue
from spotkeeper.control.aws import binding
from spotkeeper.control.aws.delivery import Counts, process
from spotkeeper.control.events import Event, QueueBlocked
from spotkeeper.control.observe import Outcome

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handle(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Record every blocked queue of the batch."""
    return process(event, context, service="record_blocked_queue", react=_react)


def _react(event: Event) -> tuple[str, Counts]:
    if not isinstance(event, QueueBlocked):
        return f"not for this handler: {type(event).__name__}", {metrics.EVENTS_IGNORED: 1}
    seen = blocked_queue.record(event, ledger=binding.ledger(), batch=binding.batch())
    run = seen.run.run_id if seen.run else "no run"
    counted = metrics.QUEUES_BLOCKED if seen.outcome is Outcome.RECORDED else metrics.EVENTS_IGNORED
    return f"{run}: {seen.outcome}: {seen.reason}", {counted: 1}
