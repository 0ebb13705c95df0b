"""Every five minutes: look after open runs and reserved money, so that no event is needed to bring them on."""

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

MARGIN_MILLISECONDS = 30_000
"""Kept for the run in work when time is up, and for a call of it that AWS does not answer (`aws.client_config`)."""
SURVEY_MILLISECONDS = 30_000
"""Kept for the survey behind the sweep: alarms are needed most when there is more to sweep than time for it."""


def handle(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Sweep once for every message of the batch, which holds one."""

    def has_time(*, beside: int = 0) -> bool:
        return context.get_remaining_time_in_millis() > MARGIN_MILLISECONDS + beside

    def react(due: Event) -> tuple[str, Counts]:
        if not isinstance(due, SweepDue):
            return f"not for this handler: {type(due).__name__}", {metrics.EVENTS_IGNORED: 1}
        ports = binding.ports()
        done = sweep(ports=ports, clock=binding.now, has_time=lambda: has_time(beside=SURVEY_MILLISECONDS))
        seen = survey(ports=ports, commits=binding.commits(), now=binding.now(), has_time=has_time)
        return sweep_report.report(done, seen)

    return process(event, context, service="sweep_runs", react=react)
