"""How a run stands to its deadline, as placement asks: what is left of its work, and of its time.

Of the work only what is committed counts, as a share of the run's steps. A run that was submitted without a deadline,
or without saying how much work it is, has none.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market, Mode, Situation, Spot

SWEEP_SECONDS: Final = 300
"""A run is decided again at least so often."""
CHANGEOVER_SECONDS: Final = 1080
"""Host, image and restore together take up to 18 minutes for a model on a GPU (Wu et al., NSDI'24, section 6)."""
ON_DEMAND_WAIT_SECONDS: Final = 900
"""To withdraw a job, submit another and be given its host takes up to three sweeps."""
MAX_LOST_SECONDS: Final = 900
"""Where the run does not say how much work it may lose."""


def without_machine(run: Run, *, waited_seconds: float, newest_step: int | None, now: str) -> Situation | None:
    """Return the situation of a run that spot has given no machine for so long; None: it has no deadline."""
    return _situation(run, newest_step, now, market=None, spot=Spot.DOWN, spot_hours=waited_seconds / 3600)


def after_loss(run: Run, *, newest_step: int | None, now: str) -> Situation | None:
    """Return the situation of a run that has lost its machine, and may have another at once; None: no deadline."""
    return _situation(run, newest_step, now, market=None, spot=Spot.UP, spot_hours=0.0)


def on_demand(run: Run, *, newest_step: int | None, now: str) -> Situation | None:
    """Return the situation of a run on on-demand that knows nothing of spot; None: it has no deadline."""
    return _situation(run, newest_step, now, market=Market.ON_DEMAND, spot=Spot.UNKNOWN, spot_hours=0.0)


def _situation(
    run: Run, newest_step: int | None, now: str, *, market: Market | None, spot: Spot, spot_hours: float
) -> Situation | None:
    if run.deadline_at is None or run.work_seconds is None:
        return None
    left = datetime.fromisoformat(run.deadline_at) - datetime.fromisoformat(now)
    max_lost_seconds = float(run.variables.get(variables.MAX_LOST_SECONDS, MAX_LOST_SECONDS))
    return Situation(
        remaining_hours=run.work_seconds * _remaining_share(run, newest_step) / 3600,
        hours_left=left.total_seconds() / 3600,
        tick_hours=SWEEP_SECONDS / 3600,
        changeover_hours=CHANGEOVER_SECONDS / 3600,
        market=market,
        spot=spot,
        spot_hours=spot_hours,
        lost_hours=max_lost_seconds / 3600,
        on_demand_wait_hours=ON_DEMAND_WAIT_SECONDS / 3600,
        # What a market costs, and which caps there are, is asked where the money is reserved.
        on_demand_usd_per_hour=1.0,
        mode=Mode(run.mode),
    )


def _remaining_share(run: Run, newest_step: int | None) -> float:
    if not run.num_steps or newest_step is None:
        return 1.0
    return max(1 - newest_step / run.num_steps, 0.0)


def later(now: str, hours: float) -> str:
    """Return the time so many hours after another."""
    return (datetime.fromisoformat(now) + timedelta(hours=hours)).astimezone(UTC).isoformat(timespec="milliseconds")
