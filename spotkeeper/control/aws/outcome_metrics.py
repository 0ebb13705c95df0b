"""How much each metric rises with what became of a run."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from spotkeeper.contract import metrics
from spotkeeper.control.observe import Outcome

OUTCOME_METRICS: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        Outcome.CLOSED: metrics.RUNS_CLOSED,
        Outcome.REQUEUED: metrics.RUNS_REQUEUED,
        Outcome.PARKED: metrics.RUNS_PARKED,
        Outcome.DEFERRED: metrics.SUBMISSIONS_DEFERRED,
    }
)


def count(outcomes: Mapping[Outcome, int]) -> dict[str, int]:
    """Return the metrics of so many runs with each outcome."""
    return {OUTCOME_METRICS[outcome]: number for outcome, number in outcomes.items() if outcome in OUTCOME_METRICS}
