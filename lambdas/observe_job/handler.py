"""A Batch job changed its state: bring the ledger up to what Batch says of it now, and do what follows."""

from typing import TYPE_CHECKING, Any

from spotkeeper.contract import metrics
from spotkeeper.control.aws import binding
from spotkeeper.control.aws.delivery import Counts, process
from spotkeeper.control.aws.outcome_metrics import count, count_dollars
from spotkeeper.control.events import Event, JobChanged
from spotkeeper.control.observe import Outcome
from spotkeeper.control.reconcile import observe_job
from spotkeeper.control.run_dollars import dollars

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handle(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Observe the job of every event of the batch."""
    return process(event, context, service="observe_job", react=_react)


def _react(event: Event) -> tuple[str, Counts]:
    if not isinstance(event, JobChanged):
        return f"not for this handler: {type(event).__name__}", {metrics.EVENTS_IGNORED: 1}
    ports, now = binding.ports(), binding.now()
    seen = observe_job(event.job_id, ports=ports, now=now)
    run = seen.run.run_id if seen.run else "no run"
    counts: dict[str, float] = (
        {metrics.EVENTS_IGNORED: 1} if seen.outcome is Outcome.IGNORED else {**count({seen.outcome: 1})}
    )
    if seen.outcome is Outcome.CLOSED and seen.run is not None:
        counts |= count_dollars(dollars(seen.run, ports=ports, now=now))
    if seen.is_cap_crossed:
        counts[metrics.CAPS_CROSSED] = 1
    return f"{run}: {seen.outcome}: {seen.reason}", counts
