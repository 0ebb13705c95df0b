"""What Spotkeeper promises of a run that spot leaves without a machine: money, handover, return."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise

from emulation.demo.promises import Promise
from emulation.demo.timeline import Row
from spotkeeper.control.budget import Cap, Reservation
from spotkeeper.control.classify import Cause
from spotkeeper.policy.money import format_usd
from spotkeeper.policy.placement import Market


@dataclass(frozen=True, kw_only=True, slots=True)
class MarketEvidence:
    """Everything that these promises are checked on."""

    rows: Sequence[Row]
    reservations: Sequence[Reservation]
    cap: Cap
    """The run's own, for on-demand."""
    submitted_at: Mapping[int, datetime]
    """When Batch took the job of each submission."""
    had_drought: bool
    """Spot was without any capacity, so the run had to change markets."""


def check_markets(seen: MarketEvidence) -> tuple[Promise, ...]:
    """Return every promise, kept or broken."""
    return (
        *([_returned(seen.rows)] if seen.had_drought else []),
        _reserved_before(seen),
        _within_the_cap(seen),
        _standbys_only_wait(seen.rows),
        _handovers_lose_nothing(seen.rows),
    )


def _holders(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.claim_seconds is not None]


def _returned(rows: Sequence[Row]) -> Promise:
    markets = [market for market, _ in groupby(row.instance.market for row in _holders(rows))]
    return Promise(
        "without spot capacity it went on on-demand, and it came back",
        markets == ["spot", "on-demand", "spot"],
        " -> ".join(markets),
    )


def _reserved_before(seen: MarketEvidence) -> Promise:
    reserved = {each.submission: each for each in seen.reservations if each.market is Market.ON_DEMAND}
    on_demand = sorted({row.attempt.submission for row in seen.rows if row.instance.market == "on-demand"})
    late = [number for number in on_demand if not _is_earlier(reserved.get(number), seen.submitted_at.get(number))]
    told = ", ".join(f"{format_usd(reserved[number].microusd)} for submission {number}" for number in sorted(reserved))
    return Promise(
        "on-demand was reserved for before its job was submitted",
        not late,
        f"not so: submission {', '.join(map(str, late))}" if late else told or "nothing ran on demand",
    )


def _is_earlier(reservation: Reservation | None, submitted_at: datetime | None) -> bool:
    if reservation is None or submitted_at is None:
        return False
    return datetime.fromisoformat(reservation.created_at) <= submitted_at


def _within_the_cap(seen: MarketEvidence) -> Promise:
    cap = seen.cap
    return Promise(
        f"what is spent and reserved on demand is within the cap of {format_usd(cap.limit)}",
        0 <= cap.spent + cap.reserved <= cap.limit,
        f"{format_usd(cap.spent)} settled, {format_usd(cap.reserved)} still reserved: it is settled a quarter of "
        "an hour after the job, and this demo does not wait for that",
    )


def _standbys_only_wait(rows: Sequence[Row]) -> Promise:
    standbys = [row for row in rows if row.stood_by]
    eager = [row.name for row in standbys if row.trained_unclaimed]
    waits = [f"{row.name} for {(row.claim_seconds or row.end_seconds) - row.start_seconds:.0f} s" for row in standbys]
    return Promise(
        "a standby waits and does not train until the run is its own",
        not eager,
        f"{', '.join(eager)} trained" if eager else ", ".join(waits) or "there was none",
    )


def _handovers_lose_nothing(rows: Sequence[Row]) -> Promise:
    handovers = list(_handovers(_holders(rows)))
    broken = [
        f"{giver.name} had done {giver.last_step}, {taker.name} began after {taker.first_step}"
        for giver, taker in handovers
        if taker.first_step < giver.last_step
    ]
    told = ", ".join(f"{giver.name} -> {taker.name} at step {taker.first_step}" for giver, taker in handovers)
    return Promise("a handover loses no work", not broken, "; ".join(broken) or told or "there was none")


def _handovers(holders: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    for giver, taker in pairwise(holders):
        if giver.attempt.cause == Cause.YIELDED and taker.stood_by:
            yield giver, taker
