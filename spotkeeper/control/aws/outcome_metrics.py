"""How much each metric rises with what became of a run, or of a reservation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from spotkeeper.contract import metrics
from spotkeeper.control.observe import Outcome
from spotkeeper.control.reservations import Tended
from spotkeeper.control.run_dollars import RunDollars

_Kind = TypeVar("_Kind", bound=Outcome | Tended)

OUTCOME_METRICS: Final[Mapping[Outcome | Tended, str]] = MappingProxyType(
    {
        Outcome.CLOSED: metrics.RUNS_CLOSED,
        Outcome.REQUEUED: metrics.RUNS_REQUEUED,
        Outcome.FELL_BACK: metrics.FALLBACKS,
        Outcome.PARKED: metrics.RUNS_PARKED,
        Outcome.NOTED: metrics.OTHERS_JOBS_NOTED,
        Outcome.DEFERRED: metrics.SUBMISSIONS_DEFERRED,
        Tended.SETTLED: metrics.RESERVATIONS_SETTLED,
        Tended.STOPPED: metrics.JOBS_STOPPED_FOR_MONEY,
    }
)


def count_dollars(found: RunDollars) -> dict[str, float]:
    """Return the metrics of what runs cost that have ended."""
    return {
        metrics.SPOT_DOLLARS: found.spot_usd,
        metrics.ON_DEMAND_DOLLARS: found.on_demand_usd,
        metrics.ON_DEMAND_EQUIVALENT_DOLLARS: found.on_demand_equivalent_usd,
        metrics.SAVED_DOLLARS: found.saved_usd,
    }


def count(outcomes: Mapping[_Kind, int]) -> dict[str, int]:
    """Return the metrics of so many runs, or reservations, with each outcome."""
    return {OUTCOME_METRICS[outcome]: number for outcome, number in outcomes.items() if outcome in OUTCOME_METRICS}
