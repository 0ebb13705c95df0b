"""Settle what was reserved: book what a submission's containers cost, and give the rest back.

Every job of the submission's name counts, the twin that a lost reply left behind too: it is stopped, waited for, and
paid from the same reservation. Nothing is settled while a job of the name may still run, or may still show up in a
look-up; until then the money stays reserved. With a queue its jobs are gone: they have ended, and of a job on on-demand
that nobody knows any more, what was reserved for it is booked in full.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from spotkeeper.control import month
from spotkeeper.control.budget import Reservation
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.cost import cost_microusd
from spotkeeper.control.lookup import LOOK_UP_SECONDS, named_jobs
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Job, NoSuchQueue, Ports
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market

BATCH_KEEPS_SECONDS: Final = 6 * 86400
"""Batch forgets a job some time after seven days."""


def settle(run: Run, reservation: Reservation, *, ports: Ports, now: str) -> Reservation | None:
    """Settle a reservation if its submission is over; return it as settled, or None if it is too early.

    Raises:
        Conflict: somebody settled or extended it meanwhile.
    """
    if reservation.settled_at is not None or is_open(run, reservation.submission):
        return None
    jobs, are_all = _jobs_of(run, reservation, ports)
    running = [job for job in jobs if not job.has_ended]
    for job in running:
        ports.batch.terminate(job.job_id, TWIN_REASON)
    if running or seconds_between(_last_moment(run, reservation, jobs), now) < LOOK_UP_SECONDS:
        return None
    is_old = seconds_between(_last_moment(run, reservation, jobs), now) > BATCH_KEEPS_SECONDS
    is_forgotten = not jobs and (is_old or not are_all)
    if is_forgotten or (not are_all and reservation.market is Market.ON_DEMAND):
        # Nobody can say any more what it cost.
        spent = reservation.microusd
    else:
        spent, reservation = _spent(run, reservation, jobs, ports, now)
    return ports.budgets.settle(reservation, spent, at=now)


def _spent(
    run: Run, reservation: Reservation, jobs: tuple[Job, ...], ports: Ports, now: str
) -> tuple[int, Reservation]:
    """Return what is still to be booked, and the reservation as the month holds it in which that was spent."""
    cost = cost_microusd(run, reservation, jobs, ports, until=now)
    if month.is_over(reservation, now=now):
        paid = month.paid_before(run, reservation, jobs, ports, now=now)
        if cost > paid:
            # What was spent after the month's end is the new month's, whether that would have allowed it or not.
            reservation = month.roll_over(run, reservation, paid_microusd=paid, microusd=0, ports=ports, now=now)
    return max(0, cost - reservation.booked_microusd), reservation


def is_open(run: Run, submission: int) -> bool:
    """Tell whether a submission may still get a job or has one that the run wants.

    A run that rests wants neither its own nor its standby's; one that an earlier release parked may still name that.
    """
    return run.is_live and submission in (run.submission, run.standby_submission)


def jobs_of(run: Run, reservation: Reservation, ports: Ports) -> tuple[Job, ...]:
    """Return every job of the submission's name, and the one that the run knows although no look-up shows it."""
    return _jobs_of(run, reservation, ports)[0]


def _jobs_of(run: Run, reservation: Reservation, ports: Ports) -> tuple[tuple[Job, ...], bool]:
    """Return these jobs, and whether they are all that there were: a queue that is gone lists none."""
    try:
        named = named_jobs(run, reservation.submission, queue=reservation.job_queue, batch=ports.batch)
        are_all = True
    except NoSuchQueue:
        named, are_all = (), False
    known = run.job_id if run.submission == reservation.submission else None
    if known is None or any(job.job_id == known for job in named):
        return named, are_all
    job = ports.batch.describe(known)
    return named if job is None else (*named, job), are_all


def _last_moment(run: Run, reservation: Reservation, jobs: Iterable[Job]) -> str:
    """Return when a job of the name can have been submitted last: not after the run moved on to another submission."""
    sent_at = run.intent_at if run.submission > reservation.submission else run.sent_at
    moments = [reservation.created_at, sent_at, *(job.stopped_at for job in jobs)]
    return max((moment for moment in moments if moment is not None), key=datetime.fromisoformat)
