"""Functions of the release before, which still run while stacks are deployed: they know no field that is newer.

They read items without those fields, and write neither them nor their removal; what others wrote there stays. What each
field means to them stands in docs/ledger-migrations.md.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from spotkeeper.control.budget import Reservation, Switch
from spotkeeper.control.run import Run
from tests.simulation.fakes import LinkedBudgets, LinkedLedger

UNKNOWN_FIELDS: Final = frozenset(
    {"deadline_at", "work_seconds", "num_steps", "highest_reserved", "refused_at", "starting_since"}
)
"""Of runs. What only runs on SageMaker have is left out: there the control plane goes first."""
_ABSENT: Final[Mapping[str, Any]] = {field.name: field.default for field in fields(Run) if field.name in UNKNOWN_FIELDS}


def _read(run: Run) -> Run:
    return replace(run, **_ABSENT)


def _written(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name not in UNKNOWN_FIELDS}


class OlderLedger(LinkedLedger):
    """The ledger as they know it."""

    def get(self, run_id: str) -> Run | None:
        run = super().get(run_id)
        return None if run is None else _read(run)

    def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        return tuple(_read(run) for run in super().get_many(run_ids))

    def list_runs(self, listing: str, limit: int) -> tuple[Run, ...]:
        return tuple(_read(run) for run in super().list_runs(listing, limit))

    def advance(self, run: Run, **changes: Any) -> Run:
        return _read(super().advance(run, **_written(changes)))


class OlderBudgets(LinkedBudgets):
    """The budgets, with which goes a write to the run."""

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        return _read(super().reserve(run, reservation, switch=switch, exempt=exempt, **_written(changes)))
