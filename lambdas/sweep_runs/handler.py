"""Every five minutes: reconcile all open runs, so that no event is needed to bring a run where it belongs."""

from typing import TYPE_CHECKING, Any

from spotkeeper.contract import metrics
from spotkeeper.control.aws import binding, sweep_report
from spotkeeper.control.aws.delivery import Counts, process
from spotkeeper.control.events import Event, SweepDue
from spotkeeper.control.survey import survey
from spotkeeper.control.sweep import sweep

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext

MARGIN_MILLISECONDS = 15_000
"""Kept for the run in work when time is up."""


def handle(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Sweep once for every message of the batch, which holds one."""

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() > MARGIN_MILLISECONDS

    def react(due: Event) -> tuple[str, Counts]:
        if not isinstance(due, SweepDue):
            return f"not for this handler: {type(due).__name__}", {metrics.EVENTS_IGNORED: 1}
        ports = binding.ports()
        done = sweep(ports=ports, clock=binding.now, has_time=has_time)
        seen = survey(ports=ports, commits=binding.commits(), now=binding.now(), has_time=has_time)
        return sweep_report.report(done, seen)

    return process(event, context, service="sweep_runs", react=react)
