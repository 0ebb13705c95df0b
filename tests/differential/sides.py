"""The sides that are compared: what tests believe, and what ships, on an emulator."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from spotkeeper.contract.ledger import RUN_SORT_KEY, SORT_KEY
from spotkeeper.control.aws.budgets import DynamoDBBudgets
from spotkeeper.control.aws.ledger import DynamoDBLedger, read_plain
from spotkeeper.control.ports import Budgets, Conflict, Ledger
from spotkeeper.control.run import Run
from tests.control.fakes import MemoryBudgets, MemoryLedger
from tests.differential.emulator import Emulator
from tests.differential.stored_items import Items, expected_items, items_of_table, run_item, without_keys
from tests.simulation.budget_table import BudgetTable
from tests.simulation.expressions import ConditionFailed
from tests.simulation.fakes import LedgerTable, Link, LinkedLedger
from tests.simulation.faults import Swarm

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")


class Refused(Exception):  # noqa: N818
    """An attempt's conditional write was refused; `item` is what the reply shows, where the request asks for it."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__()
        self.item = item


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One implementation of everything that writes to the ledger."""

    ledger: Ledger
    budgets: Budgets
    update: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    """Carries out the `UpdateItem` of an attempt; returns the new item if the request asks for it."""
    items: Callable[[], Items]


def beside(fake: Callable[[], Side], emulator: Emulator) -> Callable[[], AbstractContextManager[tuple[Side, Side]]]:
    """Return what gives an empty fake, and the shipped adapters on an empty table."""

    @contextmanager
    def sides() -> Iterator[tuple[Side, Side]]:
        with emulator.table() as table:
            yield fake(), emulated(emulator.client, table)

    return sides


def emulated(client: "DynamoDBClient", table: str) -> Side:
    """Return the shipped adapters, and the trainer's requests, on an emulator."""

    def update(request: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            reply: Any = client.update_item(**{**request, "TableName": table})
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise Refused(_shown(error.response)) from error
        return without_keys(read_plain(reply["Attributes"])) if "Attributes" in reply else None

    return Side(
        ledger=DynamoDBLedger(client, table),
        budgets=DynamoDBBudgets(client, table),
        update=update,
        items=lambda: items_of_table(client, table),
    )


def _shown(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    return without_keys(read_plain(reply["Item"])) if "Item" in reply else None


def simulated() -> Side:
    """Return the fakes of tests/simulation, without faults."""
    table = LedgerTable(_Unwatched())
    ledger = LinkedLedger(table, _Direct())

    def check(run: Run) -> None:
        if table.runs[run.run_id].version != run.version:
            raise Conflict

    budgets = _SimulatedBudgets(check, lambda run, changes, _: ledger.advance(run, **changes))
    return Side(ledger=ledger, budgets=budgets, update=_update(table), items=lambda: _items(table, budgets))


def remembered() -> Side:
    """Return the fakes of tests/control."""
    ledger = MemoryLedger()
    budgets = MemoryBudgets(ledger)
    # An attempt's writes on the same items; this fake knows only those that succeed.
    table = LedgerTable(_Unwatched())
    table.runs, table.attempts = ledger.runs, ledger.attempt_items
    table.interruptions, table.events = ledger.interruptions, ledger.events
    table.starts, table.positions = ledger.starts, ledger.positions

    def items() -> Items:
        for (second, team), number in ledger.slots.items():
            table.slots.setdefault(second, Counter())[team] = number
        return _items(table, budgets)

    return Side(ledger=ledger, budgets=budgets, update=_update(table), items=items)


def _update(table: LedgerTable) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    def update(request: Mapping[str, Any]) -> dict[str, Any] | None:
        run_id = request["Key"]["pk"]["S"].removeprefix("RUN#")
        if request["Key"][SORT_KEY]["S"] != RUN_SORT_KEY:
            table.update_attempt(run_id, request)
            return None
        before = table.runs.get(run_id)
        try:
            after = table.update_run(run_id, request, "an attempt")
        except ConditionFailed as failed:
            raise Refused(run_item(before) if failed.item is not None and before else None) from failed
        return run_item(after) if request.get("ReturnValues") == "ALL_NEW" else None

    return update


def _items(table: LedgerTable, budgets: BudgetTable) -> Items:
    return expected_items(
        runs=table.runs.values(),
        attempts=table.attempts.values(),
        interruptions=table.interruptions.values(),
        events=table.events,
        slots=table.slots,
        budgets=budgets.budgets.values(),
        reservations=budgets.reserved.values(),
        switch=budgets.turned,
        starts=table.starts,
        positions=table.positions,
    )


class _SimulatedBudgets(MemoryBudgets):
    def __init__(self, check: Callable[[Run], None], advance: Callable[[Run, Mapping[str, Any], str], Run]) -> None:
        BudgetTable.__init__(self, check, advance)


class _Unwatched:
    def money_changed(self, *_: object) -> None: ...
    def run_changed(self, *_: object) -> None: ...
    def attempt_changed(self, *_: object) -> None: ...
    def slot_taken(self, *_: object) -> None: ...
    def start_recorded(self, *_: object) -> None: ...
    def job_requested(self, *_: object) -> None: ...
    def job_stopped(self, *_: object) -> None: ...
    def object_created(self, *_: object) -> None: ...


class _Direct(Link):
    """A way to the world on which nothing is lost."""

    def __init__(self) -> None:
        self.name, self.swarm = "test", Swarm()

    def call(self, operation: str, table: object, effect: Callable[[], T], *, lost: type[Exception]) -> T:
        del operation, table, lost
        return effect()
