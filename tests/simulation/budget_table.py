"""The ledger's budgets in memory: every method is atomic, and refuses what DynamoDB's conditions would refuse."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spotkeeper.control.budget import Budget, OverBudget, Reservation, Switch, SwitchedOff
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

    def set_limits(self, budget: Budget, *, fallback: int, total: int) -> Budget:
        stored = self.budgets[budget.holder]
        if stored.version != budget.version:
            raise Conflict
        after = replace(
            stored,
            fallback=stored.fallback.limited(fallback),
            total=stored.total.limited(total),
            version=stored.version + 1,
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
        self._require(reservation, [holder for holder in reservation.holders if holder not in exempt])
        self._charge(reservation)
        self.reserved[key] = reservation
        after = self._advance(run, changes, self.writer)
        self._changed()
        return after

    def extend(self, reservation: Reservation, microusd: int) -> Reservation:
        stored = self._stored(reservation)
        more = replace(stored, microusd=microusd)
        self._require(more, more.holders)
        self._charge(more)
        after = replace(stored, microusd=stored.microusd + microusd, version=stored.version + 1)
        self.reserved[stored.run_id, stored.submission] = after
        self._changed()
        return after

    def settle(self, reservation: Reservation, spent_microusd: int, *, at: str) -> Reservation:
        stored = self._stored(reservation)
        for holder in stored.holders:
            budget = self.budgets[holder]
            fallback = budget.fallback
            if stored.market is Market.ON_DEMAND:
                fallback = fallback.settling(stored.microusd, spent_microusd)
            total = budget.total.settling(stored.microusd, spent_microusd)
            self.budgets[holder] = replace(budget, fallback=fallback, total=total)
        after = replace(stored, settled_at=at, spent_microusd=spent_microusd, version=stored.version + 1)
        self.reserved[stored.run_id, stored.submission] = after
        self._changed()
        return after

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

    def _require(self, reservation: Reservation, holders: Collection[str]) -> None:
        for holder in holders:
            budget = self.budgets[holder]
            is_on_demand = reservation.market is Market.ON_DEMAND
            too_much = is_on_demand and budget.fallback.available < reservation.microusd
            if too_much or budget.total.available < reservation.microusd:
                raise OverBudget(holder)

    def _charge(self, reservation: Reservation) -> None:
        for holder in reservation.holders:
            budget = self.budgets[holder]
            self.budgets[holder] = replace(
                budget,
                fallback=budget.fallback.reserving(reservation.fallback_microusd),
                total=budget.total.reserving(reservation.microusd),
            )


def _listed(reservation: Reservation) -> Listed:
    return Listed(created_at=reservation.created_at, run_id=reservation.run_id, submission=reservation.submission)
