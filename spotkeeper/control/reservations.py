"""Tend the reservations that are not settled."""

from enum import StrEnum

from spotkeeper.control import kill_switch
from spotkeeper.control.budget import Reservation
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.renew import renew
from spotkeeper.control.run import Run
from spotkeeper.control.settle import is_open, jobs_of, settle
from spotkeeper.policy.placement import Market


class Tended(StrEnum):
    """What was done about a reservation."""

    LEFT = "left"
    """It is in use, or it is too early to settle it."""
    STOPPED = "stopped"
    """A job of it was stopped: on-demand is switched off, a lease could not be renewed, or it was a twin."""
    SETTLED = "settled"


def glance(run: Run, reservation: Reservation, job: Job | None, *, ports: Ports, now: str) -> Tended | None:
    """Renew the lease of a run at work, as read together with others; None: the reservation needs more, as `tend` does.

    Args:
        run: Whose it is.
        reservation: As read.
        job: The run's job as read, if it has one that Batch knows and that could be read.
        ports: The world.
        now: ISO 8601, UTC.
    """
    if reservation.settled_at is not None:
        return Tended.LEFT
    is_lease_at_work = (
        reservation.market is Market.SPOT
        and run.is_live
        and run.submission == reservation.submission
        and job is not None
        and not job.has_ended
    )
    if is_lease_at_work and job is not None:
        return Tended.STOPPED if renew(run, reservation, (job,), ports=ports, now=now) else Tended.LEFT
    return None


def tend(run_id: str, submission: int, *, ports: Ports, now: str) -> Tended:
    """Settle, renew or stop one submission. `now` is ISO 8601, UTC.

    Raises:
        Conflict: somebody else does so at this moment.
    """
    run = ports.ledger.get(run_id)
    reservation = next((item for item in ports.budgets.reservations(run_id) if item.submission == submission), None)
    if run is None or reservation is None or reservation.settled_at is not None:
        return Tended.LEFT
    if not is_open(run, submission):
        return Tended.LEFT if settle(run, reservation, ports=ports, now=now) is None else Tended.SETTLED
    if kill_switch.enforce(run, reservation, ports=ports):
        return Tended.STOPPED
    jobs = jobs_of(run, reservation, ports)
    if reservation.market is Market.ON_DEMAND:
        return Tended.STOPPED if _stop_twins(run, jobs, ports) else Tended.LEFT
    return Tended.STOPPED if renew(run, reservation, jobs, ports=ports, now=now) else Tended.LEFT


def _stop_twins(run: Run, jobs: tuple[Job, ...], ports: Ports) -> bool:
    """Stop jobs of the run's submission beside its own: they would be refused their claims, once they have started."""
    if run.job_id is None:
        return False
    twins = [job for job in jobs if job.job_id != run.job_id and not job.has_ended]
    for job in twins:
        ports.batch.terminate(job.job_id, TWIN_REASON)
    return bool(twins)
