"""Begin a run's next submission, on the market that placement chose: intent and money in one write."""

from typing import Any

from spotkeeper.control import mirror_retention, reserve, standby
from spotkeeper.control.ports import Ports
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Lack, Run
from spotkeeper.control.submit import next_submission
from spotkeeper.policy.placement import Market


def on_spot(run: Run, *, ports: Ports, now: str, **changes: Any) -> Run | Held:
    """Record the intent of the next submission on spot.

    Raises:
        Conflict: somebody wrote in between; decide anew.
    """
    profile = ports.terms.profiles.get(run.profile)
    placed = {
        **next_submission(run, now=now),
        **standby.forgotten(),
        "market": Market.SPOT.value,
        "job_queue": profile.spot_queue if profile is not None else run.job_queue,
        "segment_seconds": None,
        "on_demand_since": None,
        # Time that went by without money says nothing about spot.
        **({"dry_since": now} if run.lacks == Lack.MONEY else {}),
        **changes,
        # What standbys have told is about the time on on-demand that ends here.
        "standby_ended_at": None,
        "num_failed_standbys": 0,
    }
    return _with_room(run, reserve.spot(run, placed, ports=ports, now=now), ports, now)


def on_demand(run: Run, *, ports: Ports, now: str, **changes: Any) -> Run | Held:
    """Record the intent of the next submission on on-demand, with its reservation.

    Raises:
        Conflict: somebody wrote in between; decide anew.
    """
    placed = {**next_submission(run, now=now), **standby.forgotten(), **changes}
    return _with_room(run, reserve.on_demand(run, placed, ports=ports, now=now), ports, now)


def _with_room(run: Run, begun: Run | Held, ports: Ports, now: str) -> Run | Held:
    if isinstance(begun, Run):
        mirror_retention.let_go(run, begun, ports=ports, now=now)
    return begun
