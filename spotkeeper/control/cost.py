"""What a submission's containers cost, as a bound from above: AWS Batch tells of containers, and EC2 bills hosts.

A host is billed from its launch, which is before its container starts, until Batch gives it back. So

- each container counts with the whole of its host's start and end, from its start on
- on on-demand the start counts from the creation of the job, as far as the reservation goes, where that is longer than
  a start takes: the host may have been there since, and the container have hung
- an attempt that ended without having started had a host all the same: an image that could not be pulled, a job that
  was stopped while STARTING
- a job on on-demand counts as one host at least, however it ended. Batch launches hosts for jobs that are RUNNABLE and
  tells nobody, so a job that was withdrawn or cancelled may leave one behind; so may one that Batch gave up for want of
  capacity, if EC2 had some at the last moment. Nothing that Batch says of such a job proves that there was none

On spot the last is left out: jobs wait there for days, and a lease is no proof anyway. But what SageMaker takes longer
than a start to prepare machines there counts, as data sets are copied for an hour and more.

SageMaker tells itself what it bills, once a job has ended: BillableTimeInSeconds of each machine, at the price of
on-demand, on spot too, where the discount shows as fewer seconds. Where it does not tell, as it may on a failure, the
bound from above stands. It tells the type of the machines too; on AWS Batch each attempt does, and one that never
claimed counts as one of the dearest type.

What was reserved for on-demand covers all that can be billed, so the bounds of several containers together stop there.
What SageMaker bills is no bound, and counts in full even where it is more.
"""

from collections.abc import Iterable
from decimal import Decimal

from spotkeeper.control.budget import Reservation
from spotkeeper.control.classify import has_waited_in_vain
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.run import Run
from spotkeeper.policy import money
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import (
    BOOT_SECONDS,
    MachineTime,
    before_seconds,
    longest_start_seconds,
    settled_microusd,
)


def cost_microusd(run: Run, reservation: Reservation, jobs: Iterable[Job], ports: Ports, *, until: str) -> int:
    """Return the most that a submission's jobs can have cost up to a moment, ISO 8601, UTC."""
    known = {
        (attempt.job_id, attempt.attempt): attempt
        for attempt in ports.ledger.attempts(run.run_id)
        if attempt.submission == reservation.submission
    }
    dearest, is_on_demand = Decimal(reservation.usd_per_hour), reservation.market is Market.ON_DEMAND
    times, billed_microusd, prepared_microusd = [], 0, 0
    for job in jobs:
        before = _before_first(job, until) if is_on_demand else BOOT_SECONDS
        attempts = [known.pop((job.job_id, number), None) for number in range(1, len(job.attempts) + 1)]
        types = [job.instance_type or (attempt.instance_type if attempt is not None else None) for attempt in attempts]
        prices = [_price(type_, run, dearest, ports) for type_ in types]
        price_of_job = _price(job.instance_type, run, dearest, ports)
        if job.billed_seconds is not None:
            price = max(prices, default=price_of_job)
            billed_microusd += money.cost_microusd(price, job.billed_seconds)
            continue
        if not is_on_demand:
            prepared_microusd += money.cost_microusd(price_of_job, _prepared_seconds(job, until))
        for price, seconds in zip(prices, container_seconds(job, until=until), strict=True):
            if seconds is not None:
                times.append(MachineTime(seconds=seconds, usd_per_hour=price, before_seconds=before))
        if job.has_ended and not job.attempts and is_on_demand:
            times.append(MachineTime(seconds=0, usd_per_hour=price_of_job, before_seconds=before))
    # What Batch has forgotten, the ledger remembers.
    for attempt in known.values():
        seconds = _lasted(attempt.started_at, attempt.stopped_at, until)
        if seconds is not None:
            price = _price(attempt.instance_type, run, dearest, ports)
            times.append(MachineTime(seconds=seconds, usd_per_hour=price))
    bound_microusd = prepared_microusd + settled_microusd(times)
    if is_on_demand:
        bound_microusd = min(bound_microusd, max(0, reservation.microusd - billed_microusd))
    return billed_microusd + bound_microusd


def container_seconds(job: Job, *, until: str) -> tuple[float | None, ...]:
    """Return how long each of a job's containers ran up to a moment; None for one that is not known to have begun."""
    return tuple(_lasted(told.started_at, told.stopped_at or job.stopped_at, until) for told in job.attempts)


def _before_first(job: Job, until: str) -> float:
    """Return how long, at most, the host of a job was there before its one container."""
    if has_waited_in_vain(job):
        return BOOT_SECONDS  # what was launched at the last moment
    told = job.attempts[0] if job.attempts else None
    began_at = (told.started_at or told.stopped_at if told is not None else None) or job.stopped_at or until
    return before_seconds(
        waited_seconds=seconds_between(job.order.created_at, began_at),
        start_seconds=longest_start_seconds(copies_first=job.order.copies_first),
    )


def _prepared_seconds(job: Job, until: str) -> float:
    """Return for how long machines were prepared beyond the start that each container counts with."""
    lasted = (_lasted(began_at, ended_at, until) for began_at, ended_at in job.preparations)
    return sum(max(0.0, (seconds or 0.0) - BOOT_SECONDS) for seconds in lasted)


def _lasted(started_at: str | None, stopped_at: str | None, until: str) -> float | None:
    began_at = started_at or stopped_at
    if began_at is None or seconds_between(began_at, until) < 0:
        return None
    end_seconds = seconds_between(began_at, until)
    if stopped_at is not None:
        # Never less than nothing: the clocks of two machines told these.
        end_seconds = min(end_seconds, max(0.0, seconds_between(began_at, stopped_at)))
    return end_seconds


def _price(instance_type: str | None, run: Run, dearest: Decimal, ports: Ports) -> Decimal:
    """Return the price of all the run's machines if they are of this type, or of the dearest where it is not known."""
    profile = ports.terms.profiles.get(run.profile)
    price = profile.usd_per_hour.get(instance_type) if profile is not None and instance_type is not None else None
    return dearest if price is None else min(price * run.num_nodes, dearest)
