"""The ledger's budgets in memory: every method is atomic, and refuses what DynamoDB's conditions would refuse."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spotkeeper.control.budget import (
    CAPS_OF,
    Budget,
    CapChange,
    OverBudget,
    Reservation,
    Switch,
    SwitchedOff,
    asked_by_rolling_over,
    rolling_over,
)
from spotkeeper.control.listing import Listed
from spotkeeper.control.ports import Conflict
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market
from tests.simulation.listed import in_order

Check = Callable[[Run], None]
"""Raises Conflict if the run is not at the version read."""
Advance = Callable[[Run, Mapping[str, Any], str], Run]
"""Takes the run, the changes, and who writes them."""


class BudgetTable:
    """Budgets, reservations and the kill switch.

    Args:
        check: Tells whether a run is at the version read.
        advance: Writes changes to a run; called only when nothing can refuse any more.
        changed: Is told after every change.
    """

    def __init__(self, check: Check, advance: Advance, changed: Callable[[], None] = lambda: None) -> None:
        self.budgets: dict[str, Budget] = {}
        self.reserved: dict[tuple[str, int], Reservation] = {}
        self.turned = Switch()
        self.writer = ""
        """Who makes the next change."""
        self._check, self._advance, self._changed = check, advance, changed

    def open(self, budget: Budget) -> Budget:
        opened = self.budgets.setdefault(budget.holder, budget)
        self._changed()
        return opened

    def set_limits(self, budget: Budget, *, fallback: int, total: int, is_deployed: bool = False) -> Budget:
        stored = self.budgets[budget.holder]
        if stored.version != budget.version:
            raise Conflict
        after = replace(
            stored,
            fallback=stored.fallback.changed(CapChange.limiting(stored.fallback.limit, fallback)),
            total=stored.total.changed(CapChange.limiting(stored.total.limit, total)),
            version=stored.version + 1,
            deployed_version=stored.version + 1 if is_deployed else stored.deployed_version,
        )
        self.budgets[budget.holder] = after
        self._changed()
        return after

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        self._check(run)
        key = (reservation.run_id, reservation.submission)
        if key in self.reserved:
            raise Conflict
        if switch is not None and switch.generation != self.turned.generation:
            raise SwitchedOff
        change = CapChange.reserving(reservation.microusd)
        asked = {holder: change.asked for holder in reservation.holders if holder not in exempt}
        self._require(asked, reservation.market)
        self._change(dict.fromkeys(reservation.holders, change), reservation.market)
        self.reserved[key] = reservation
        after = self._advance(run, changes, self.writer)
        self._changed()
        return after

    def extend(self, reservation: Reservation, microusd: int) -> Reservation:
        stored = self._stored(reservation)
        change = CapChange.reserving(microusd)
        self._require(dict.fromkeys(stored.holders, change.asked), stored.market)
        return self._put(stored.extended(microusd), dict.fromkeys(stored.holders, change))

    def roll_over(
        self, reservation: Reservation, spent_microusd: int, *, holders: tuple[str, ...], microusd: int, at: str
    ) -> Reservation:
        stored = self._stored(reservation)
        changes = rolling_over(stored, spent_microusd, holders=holders, microusd=microusd)
        self._require(asked_by_rolling_over(changes, holders, microusd=microusd), stored.market)
        after = stored.rolled_over(spent_microusd, holders=holders, microusd=microusd, at=at)
        return self._put(after, changes)

    def settle(self, reservation: Reservation, spent_microusd: int, *, at: str) -> Reservation:
        stored = self._stored(reservation)
        change = CapChange.settling(stored.microusd, spent_microusd)
        return self._put(stored.settled(spent_microusd, at=at), dict.fromkeys(stored.holders, change))

    def reservations(self, run_id: str) -> tuple[Reservation, ...]:
        return tuple(self.reserved[key] for key in sorted(self.reserved) if key[0] == run_id)

    def get_many(self, entries: Sequence[Listed]) -> tuple[Reservation, ...]:
        assert len(entries) <= 100
        found = (self.reserved.get((entry.run_id, entry.submission or 0)) for entry in entries)
        return tuple(item for item in found if item is not None)

    def unsettled(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        yield from in_order([_listed(item) for item in self.reserved.values() if item.settled_at is None], behind)

    def turn(self, switch: Switch, *, is_off: bool, reason: str | None) -> Switch:
        if switch.generation != self.turned.generation:
            raise Conflict
        self.turned = Switch(generation=switch.generation + 1, is_off=is_off, reason=reason)
        self._changed()
        return self.turned

    def _stored(self, reservation: Reservation) -> Reservation:
        stored = self.reserved[reservation.run_id, reservation.submission]
        if stored.version != reservation.version or stored.settled_at is not None:
            raise Conflict
        return stored

    def _put(self, reservation: Reservation, changes: Mapping[str, CapChange]) -> Reservation:
        self._change(changes, reservation.market)
        self.reserved[reservation.run_id, reservation.submission] = reservation
        self._changed()
        return reservation

    def _require(self, asked: Mapping[str, int], market: Market) -> None:
        for holder, amount in asked.items():
            if any(getattr(self.budgets[holder], cap).available < amount for cap in CAPS_OF[market]):
                raise OverBudget(holder)

    def _change(self, changes: Mapping[str, CapChange], market: Market) -> None:
        for holder, change in changes.items():
            budget = self.budgets[holder]
            caps = {cap: getattr(budget, cap).changed(change) for cap in CAPS_OF[market]}
            self.budgets[holder] = replace(budget, **caps)


def _listed(reservation: Reservation) -> Listed:
    return Listed(created_at=reservation.created_at, run_id=reservation.run_id, submission=reservation.submission)
