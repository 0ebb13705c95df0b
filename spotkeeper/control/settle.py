"""Settle what was reserved: book what a submission's containers cost, and give the rest back.

Every job of the submission's name counts, the twin that a lost reply left behind too: it is stopped, waited for, and
paid from the same reservation. Nothing is settled while a job of the name may still run, or may still show up in a
look-up; until then the money stays reserved.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final

from spotkeeper.control.budget import Reservation
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.lookup import find_jobs
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.run import Attempt, Run
from spotkeeper.policy.reservation import MachineTime, settled_microusd

LOOK_UP_SECONDS: Final = 900
"""A job shows in a look-up by name at most so long after its submission was recorded.

Five minutes are for a sweep that stalls between recording the call and making it, ten for ListJobs to catch up.
"""


def settle(run: Run, reservation: Reservation, *, ports: Ports, now: str) -> Reservation | None:
    """Settle a reservation if its submission is over; return it as settled, or None if it is too early.

    Raises:
        Conflict: somebody settled or extended it meanwhile.
    """
    if reservation.settled_at is not None or is_open(run, reservation.submission):
        return None
    jobs = jobs_of(run, reservation, ports)
    running = [job for job in jobs if not job.has_ended]
    for job in running:
        ports.batch.terminate(job.job_id, TWIN_REASON)
    if running or seconds_between(_last_moment(run, reservation, jobs), now) < LOOK_UP_SECONDS:
        return None
    spent = spent_microusd(run, reservation, jobs, ports)
    return ports.budgets.settle(reservation, spent, at=now)


def is_open(run: Run, submission: int) -> bool:
    """Tell whether a submission may still get a job or has one that the run wants."""
    return (run.is_live and run.submission == submission) or run.standby_submission == submission


def spent_microusd(run: Run, reservation: Reservation, jobs: Iterable[Job], ports: Ports, *, until: str = "") -> int:
    """Return what the containers of a submission's jobs cost, those that run counted up to `until`."""
    known = {
        (attempt.job_id, attempt.attempt): attempt
        for attempt in ports.ledger.attempts(run.run_id)
        if attempt.submission == reservation.submission
    }
    dearest = Decimal(reservation.usd_per_hour)
    times = []
    for job in jobs:
        for number, told in enumerate(job.attempts, start=1):
            ended_at = told.stopped_at or until
            if told.started_at and ended_at:
                price = _price(known.pop((job.job_id, number), None), run, dearest, ports)
                times.append(MachineTime(seconds=_lasted(told.started_at, ended_at), usd_per_hour=price))
    # What Batch has forgotten, the ledger remembers.
    for attempt in known.values():
        if attempt.started_at and attempt.stopped_at:
            seconds = _lasted(attempt.started_at, attempt.stopped_at)
            times.append(MachineTime(seconds=seconds, usd_per_hour=_price(attempt, run, dearest, ports)))
    return settled_microusd(times)


def jobs_of(run: Run, reservation: Reservation, ports: Ports) -> tuple[Job, ...]:
    """Return every job of the submission's name, and the one that the run knows although no look-up shows it."""
    named = find_jobs(run, reservation.submission, queue=reservation.job_queue, batch=ports.batch)
    known = run.job_id if run.submission == reservation.submission else None
    if known is None or any(job.job_id == known for job in named):
        return named
    job = ports.batch.describe(known)
    return named if job is None else (*named, job)


def _price(attempt: Attempt | None, run: Run, dearest: Decimal, ports: Ports) -> Decimal:
    """Return the price of the attempt's own machine, or of the dearest where that is not known."""
    if attempt is None or attempt.instance_type is None:
        return dearest
    profile = ports.terms.profiles.get(run.profile)
    price = profile.usd_per_hour.get(attempt.instance_type) if profile is not None else None
    return dearest if price is None else min(price, dearest)


def _last_moment(run: Run, reservation: Reservation, jobs: Iterable[Job]) -> str:
    """Return when a job of the name can have been submitted last: not after the run moved on to another submission."""
    sent_at = run.intent_at if run.submission > reservation.submission else run.sent_at
    moments = [reservation.created_at, sent_at, *(job.stopped_at for job in jobs)]
    return max((moment for moment in moments if moment is not None), key=datetime.fromisoformat)


def _lasted(begin: str, end: str) -> float:
    # Never less than nothing: the clocks of two machines told these.
    return max(0.0, seconds_between(begin, end))
