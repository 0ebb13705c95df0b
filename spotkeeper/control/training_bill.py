"""Spread what SageMaker bills of a training job over the job's attempts.

SageMaker tells one number for the job, BillableTimeInSeconds of each machine, and only once the job has ended. An
interrupted job has had several attempts, and what each of them cost it does not tell: they share the number by the time
of their containers. So the sum is SageMaker's, and the parts are ours.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from itertools import groupby
from operator import attrgetter
from typing import Final

from spotkeeper.control.run import Attempt
from spotkeeper.control.spot_prices import container_time, seconds_of

_MILLISECOND: Final = Decimal("0.001")


def billed_seconds(attempts: Iterable[Attempt], *, now: datetime) -> Mapping[tuple[int, int], Decimal]:
    """Return what is billed of each machine of an attempt, by (submission, number), as far as SageMaker has told."""
    in_order = sorted(attempts, key=attrgetter("submission", "attempt"))
    found: dict[tuple[int, int], Decimal] = {}
    # A submission is one job.
    for submission, of_job in groupby(in_order, key=attrgetter("submission")):
        started = tuple(attempt for attempt in of_job if attempt.started_at is not None)
        billed = next((one.job_billed_seconds for one in started if one.job_billed_seconds is not None), None)
        if billed is not None:
            shares = _shares(Decimal(billed), [seconds_of(*container_time(attempt, now=now)) for attempt in started])
            found |= {(submission, attempt.attempt): share for attempt, share in zip(started, shares, strict=True)}
    return found


def _shares(billed: Decimal, seconds: list[Decimal]) -> list[Decimal]:
    """Split a number in proportion to times, equally where all are none; the last part takes what rounding leaves."""
    weights = seconds if any(seconds) else [Decimal(1)] * len(seconds)
    whole = sum(weights)
    parts = [(billed * weight / whole).quantize(_MILLISECOND, rounding=ROUND_DOWN) for weight in weights[:-1]]
    return [*parts, billed - sum(parts)]
