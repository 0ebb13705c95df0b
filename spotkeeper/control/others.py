"""Record the jobs on our queues that are no runs: they use the same capacity, and whoever pays wants to see them.

Nothing is ever done to them. What they cost is a bound: AWS Batch does not say on which machine a job of others ran, so
the queue's dearest type is taken at its on-demand price, which a spot price never exceeds. SageMaker says the type,
which may be none of the profile's, and, once a job has ended, what it bills.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from spotkeeper.contract.training import is_queue, service_of
from spotkeeper.control.cost import container_seconds
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Observation, Outcome
from spotkeeper.control.ports import Job, JobOrder, JobStatus, Ports
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.money import cost_microusd
from spotkeeper.policy.reservation import MachineTime, settled_microusd

KEPT_SECONDS: Final = 90 * 86400
FORGOTTEN_SECONDS: Final = 86400
UNKNOWN: Final = "UNKNOWN"
"""Status of a job whose end nobody saw."""
MOST_LOOKED_AT: Final = 200
"""At each sweep; runs come first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OthersJob:
    """A job that is no run, as it was when it was looked at last. Times are ISO 8601, UTC."""

    job_id: str
    name: str
    queue: str
    """ARN."""
    status: str
    created_at: str
    observed_at: str
    team: str | None = None
    reason: str | None = None
    """Batch's, of the status."""
    num_attempts: int = 0
    ran_seconds: int = 0
    """Of all its attempts together."""
    most_microusd: int | None = None
    """The most that they can have cost; None: unpriced."""
    pricing: str = ""
    """By which price, or why by none."""
    why_no_run: str = ""
    facts: int = 0
    """Rises with what is known of the job, so that a late look never replaces a later one."""


def record(job: Job, *, why_not_adopted: str, ports: Ports, now: str) -> Observation:
    """Record a job of others. One that is in no queue of the environment is nobody's concern here."""
    order = job.order
    if ports.others is None or ports.terms.place_of(order.queue) is None:
        return Observation(outcome=Outcome.IGNORED, reason=f"job {job.name} is in no queue of this environment")
    found = _looked_at(job, order, why_not_adopted, ports.terms, now)
    is_news = ports.others.record(found, expires_at=_expiry(now))
    starts = [attempt.started_at for attempt in job.attempts if attempt.started_at is not None]
    if is_news and starts:
        # It had a machine that a run of ours might have had: the queue has a backlog, not a drought.
        ports.ledger.record_start(order.queue, at=max(starts))
    outcome = Outcome.NOTED if is_news else Outcome.UNCHANGED
    return Observation(outcome=outcome, reason=f"job {job.name} of others is {job.status}; {why_not_adopted}")


def forget(job: OthersJob, *, ports: Ports, now: str) -> None:
    """Record that Batch does not know the job, once it has not for a day: it keeps ended jobs for about a week."""
    if ports.others is not None and seconds_between(job.observed_at, now) > FORGOTTEN_SECONDS:
        told = replace(
            job, status=UNKNOWN, reason=f"{service_of(job.queue)} does not know it any more", facts=job.facts + 1
        )
        ports.others.record(replace(told, observed_at=now), expires_at=_expiry(now))


def unended(ports: Ports) -> tuple[OthersJob, ...]:
    """Return the recorded jobs of others, the newest, whose end is not recorded: the event of it may be lost."""
    newest = ports.others.list_jobs(MOST_LOOKED_AT) if ports.others is not None else ()
    return tuple(job for job in newest if job.status not in (JobStatus.SUCCEEDED, JobStatus.FAILED, UNKNOWN))


def _expiry(now: str) -> int:
    return int(datetime.fromisoformat(now).timestamp()) + KEPT_SECONDS


def _looked_at(job: Job, order: JobOrder, why_no_run: str, terms: EnvironmentTerms, now: str) -> OthersJob:
    price, pricing = _price(job, terms)
    seconds = [each for each in container_seconds(job, until=now) if each is not None]
    return OthersJob(
        job_id=job.job_id,
        name=job.name,
        queue=order.queue,
        status=job.status,
        created_at=order.created_at,
        observed_at=now,
        team=order.team,
        reason=job.status_reason,
        num_attempts=len(job.attempts),
        ran_seconds=round(sum(seconds)),
        most_microusd=None if price is None else _most_microusd(job, price, seconds),
        pricing=pricing,
        why_no_run=why_no_run,
        facts=_facts(job),
    )


def _most_microusd(job: Job, usd_per_hour: Decimal, seconds: list[float]) -> int:
    if job.billed_seconds is not None:
        return cost_microusd(usd_per_hour, job.billed_seconds)
    return settled_microusd(MachineTime(seconds=each, usd_per_hour=usd_per_hour) for each in seconds)


def _price(job: Job, terms: EnvironmentTerms) -> tuple[Decimal | None, str]:
    order = job.order
    place = terms.place_of(order.queue)
    if place is None:
        return None, "unpriced: the queue is not the environment's"
    if is_queue(order.queue):
        return _training_price(job, terms)
    profile, market = place
    price = terms.profiles[profile].dearest_usd_per_hour(market, num_nodes=order.num_nodes)
    if price is None:
        return None, f"unpriced: the price of a type of profile {profile} is not known"
    machines = f"{order.num_nodes} machines of " if order.num_nodes > 1 else ""
    return price, f"at most ${price}/h: {machines}the dearest type of profile {profile}, on demand"


def _training_price(job: Job, terms: EnvironmentTerms) -> tuple[Decimal | None, str]:
    if job.instance_type is None:
        return None, "unpriced: SageMaker does not tell its type"
    known = [
        profile.usd_per_hour[job.instance_type]
        for profile in terms.profiles.values()
        if profile.training is not None and job.instance_type in profile.usd_per_hour
    ]
    if not known:
        return None, f"unpriced: the price of {job.instance_type} is not known"
    price = job.order.num_nodes * known[0]
    machines = f"{job.order.num_nodes} machines of " if job.order.num_nodes > 1 else ""
    billed = "the seconds that SageMaker bills" if job.billed_seconds is not None else "before any discount"
    return price, f"${price}/h: {machines}{job.instance_type}, {billed}"


def _facts(job: Job) -> int:
    """Count what Batch has told: attempts begin and end, and the job ends last."""
    of_attempts = sum((attempt.started_at is not None) + (attempt.stopped_at is not None) for attempt in job.attempts)
    return 1 + of_attempts + int(job.has_ended)
