"""Budgets on DynamoDB: money is set aside in the same transaction as the intent to spend it.

A transaction is all or nothing, and each of its conditions compares one attribute with one value: DynamoDB's conditions
cannot add, so what is left of a cap is an attribute of its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract import budgets as keys
from spotkeeper.contract import ledger as contract
from spotkeeper.control.aws.batch_read import read_items
from spotkeeper.control.aws.ledger import (
    index_key,
    item_key,
    put_new,
    read_plain,
    run_update,
    serialized,
    typed_errors,
)
from spotkeeper.control.aws.listing_index import keys_from_oldest
from spotkeeper.control.budget import (
    CAPS_OF,
    Budget,
    Cap,
    CapChange,
    OverBudget,
    Reservation,
    Switch,
    SwitchedOff,
    asked_by_rolling_over,
    rolling_over,
)
from spotkeeper.control.listing import Listed
from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CANCELLED: Final = "TransactionCanceledException"
_CONDITION: Final = "ConditionalCheckFailed"
_NOTHING_WRONG: Final = "None"
_PASSING: Final = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Another transaction was quicker, or there was too much to do: nothing happened, and a repetition may succeed."""
_CAPS: Final = ("fallback", "total")
_PARTS: Final = ("limit", "available", "reserved", "spent")


class DynamoDBBudgets:
    """Implements `ports.Budgets` on the table of the ledger."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def get(self, holder: str) -> Budget | None:
        """Read a holder's budget, consistently."""
        item = self._read(keys.budget_partition(holder), keys.BUDGET_SORT_KEY)
        return _budget_of(holder, item) if item else None

    def open(self, budget: Budget) -> Budget:
        """Put the budget where none is, and return the one that is there."""
        item = {**_budget_key(budget.holder), **serialized(_budget_attributes(budget))}
        try:
            put_new(self._client, self._table, item)
        except Conflict:
            return self.get(budget.holder) or budget
        return budget

    def set_limits(self, budget: Budget, *, fallback: int, total: int, is_deployed: bool = False) -> Budget:
        """Set both limits if nobody did so since the budget was read; what is reserved and spent meanwhile stands."""
        sums = {
            **_sums("fallback", CapChange.limiting(budget.fallback.limit, fallback)),
            **_sums("total", CapChange.limiting(budget.total.limit, total)),
        }
        read = {"#version = :read": {":read": budget.version}}
        risen = ("version", "deployed_version") if is_deployed else ("version",)
        update = _adding(_budget_key(budget.holder), sums, read, dict.fromkeys(risen, budget.version + 1))
        with typed_errors():
            self._client.update_item(TableName=self._table, **update)
        return self.get(budget.holder) or budget

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        """Write changes to the run, a reservation and all its holders' budgets, or nothing."""
        after = run.advanced(**changes)
        change = CapChange.reserving(reservation.microusd)
        actions: list[dict[str, Any]] = [
            {"Update": {"TableName": self._table, **run_update(run, after, changes)}},
            {
                "Put": {
                    "TableName": self._table,
                    "Item": {**_reservation_key(reservation), **serialized(_reservation_attributes(reservation))},
                    "ConditionExpression": "attribute_not_exists(#pk)",
                    "ExpressionAttributeNames": {"#pk": contract.PARTITION_KEY},
                }
            },
            *([self._unturned(switch)] if switch is not None else []),
            *(
                self._changing(holder, change, reservation.market, asked=None if holder in exempt else change.asked)
                for holder in reservation.holders
            ),
        ]
        holders_from = len(actions) - len(reservation.holders)
        switch_at = None if switch is None else 2
        self._transact(actions, holders_from=holders_from, holders=reservation.holders, switch_at=switch_at)
        return after

    def extend(self, reservation: Reservation, microusd: int) -> Reservation:
        """Reserve so much more for the same submission, if every budget still allows it."""
        after, change = reservation.extended(microusd), CapChange.reserving(microusd)
        actions = [
            self._updating(reservation, {"version": after.version, "microusd": after.microusd}),
            *(self._changing(holder, change, reservation.market, asked=change.asked) for holder in reservation.holders),
        ]
        self._transact(actions, holders_from=1, holders=reservation.holders)
        return after

    def roll_over(
        self, reservation: Reservation, spent_microusd: int, *, holders: tuple[str, ...], microusd: int, at: str
    ) -> Reservation:
        """Book what was spent, and set aside with the holders of a new month what the submission needs from now."""
        after = reservation.rolled_over(spent_microusd, holders=holders, microusd=microusd, at=at)
        changes = rolling_over(reservation, spent_microusd, holders=holders, microusd=microusd)
        asked = asked_by_rolling_over(changes, holders, microusd=microusd)
        values = {name: getattr(after, name) for name in ("version", "microusd", "booked_microusd", "rolled_over_at")}
        actions = [
            self._updating(reservation, {**values, "holders": list(holders)}),
            *(
                self._changing(holder, change, reservation.market, asked=asked.get(holder))
                for holder, change in changes.items()
            ),
        ]
        self._transact(actions, holders_from=1, holders=tuple(changes))
        return after

    def settle(self, reservation: Reservation, spent_microusd: int, *, at: str) -> Reservation:
        """Book what was spent and give the rest back to every holder, once."""
        after = reservation.settled(spent_microusd, at=at)
        values = {"version": after.version, "settled_at": at, "spent_microusd": spent_microusd}
        change = CapChange.settling(reservation.microusd, spent_microusd)
        actions = [
            self._updating(reservation, values, removed=(contract.LISTING_PARTITION_KEY,)),
            *(self._changing(holder, change, reservation.market, asked=None) for holder in reservation.holders),
        ]
        self._transact(actions, holders_from=len(actions), holders=())
        return after

    def reservations(self, run_id: str) -> tuple[Reservation, ...]:
        """Read a run's reservations, consistently, in the order of its submissions."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="#pk = :pk AND begins_with(#sk, :prefix)",
            ExpressionAttributeNames={"#pk": contract.PARTITION_KEY, "#sk": contract.SORT_KEY},
            ExpressionAttributeValues={
                ":pk": {"S": keys.reservations_partition(run_id)},
                ":prefix": {"S": keys.RESERVATION_SORT_PREFIX},
            },
        )
        with typed_errors():
            return tuple(_reservation_of(read_plain(item)) for page in pages for item in page["Items"])

    def get_many(self, entries: Sequence[Listed]) -> tuple[Reservation, ...]:
        """Read the reservations, consistently, a hundred at a time."""
        with typed_errors():
            found = read_items(self._client, self._table, [_listed_key(entry) for entry in entries])
        return tuple(_reservation_of(read_plain(item)) for item in found)

    def unsettled(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Query the listing index, oldest first, page by page."""
        start = index_key(_listed_key(behind), keys.LISTING_UNSETTLED, behind.created_at) if behind else None
        with typed_errors():
            for item in keys_from_oldest(self._client, self._table, keys.LISTING_UNSETTLED, behind=start):
                yield Listed(
                    created_at=item[contract.LISTING_SORT_KEY]["S"],
                    run_id=item[contract.PARTITION_KEY]["S"].removeprefix(keys.reservations_partition("")),
                    submission=int(item[contract.SORT_KEY]["S"].removeprefix(keys.RESERVATION_SORT_PREFIX)),
                )

    def switch(self) -> Switch:
        """Read the kill switch; one that was never turned is on."""
        item = self._read(keys.SWITCH_PARTITION, keys.SWITCH_SORT_KEY)
        if item is None:
            return Switch()
        return Switch(generation=item["generation"], is_off=item["is_off"], reason=item.get("reason"))

    def turn(self, switch: Switch, *, is_off: bool, reason: str | None) -> Switch:
        """Turn the switch if nobody did since it was read."""
        after = Switch(generation=switch.generation + 1, is_off=is_off, reason=reason)
        attributes = serialized({"generation": after.generation, "is_off": is_off, "reason": reason})
        with typed_errors():
            self._client.put_item(
                TableName=self._table,
                Item={**_switch_key(), **attributes},
                **_unturned_condition(switch),
            )
        return after

    def _updating(
        self, reservation: Reservation, values: Mapping[str, Any], *, removed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the action that changes a reservation, unless somebody did or settled it since it was read."""
        is_as_read = {"#version = :read AND attribute_not_exists(#settled_at)": {":read": reservation.version}}
        key = _reservation_key(reservation)
        update = _adding(key, {}, is_as_read, values, named=("settled_at",), removed=removed)
        return {"Update": {"TableName": self._table, **update}}

    def _changing(self, holder: str, change: CapChange, market: Market, *, asked: int | None) -> dict[str, Any]:
        """Return the action that changes the caps of a holder if so much is available; None: without being asked."""
        caps = CAPS_OF[market]
        sums = {name: by for cap in caps for name, by in _sums(cap, change).items()}
        condition: dict[str, dict[str, int]] = {"attribute_exists(#pk)": {}}
        if asked is not None:
            condition = {" AND ".join(f"#{cap}_available >= :asked" for cap in caps): {":asked": asked}}
        named = (contract.PARTITION_KEY,) if asked is None else ()
        update = _adding(_budget_key(holder), sums, condition, {}, named=named)
        return {"Update": {"TableName": self._table, **update}}

    def _unturned(self, switch: Switch) -> dict[str, Any]:
        return {"ConditionCheck": {"TableName": self._table, "Key": _switch_key(), **_unturned_condition(switch)}}

    def _read(self, partition: str, sort: str) -> dict[str, Any] | None:
        with typed_errors():
            reply = self._client.get_item(TableName=self._table, Key=item_key(partition, sort), ConsistentRead=True)
        return read_plain(reply["Item"]) if "Item" in reply else None

    def _transact(
        self,
        actions: Sequence[Mapping[str, Any]],
        *,
        holders_from: int,
        holders: Sequence[str],
        switch_at: int | None = None,
    ) -> None:
        with _reasons(holders_from=holders_from, holders=holders, switch_at=switch_at):
            self._client.transact_write_items(TransactItems=list(actions))  # type: ignore[arg-type]


@contextmanager
def _reasons(*, holders_from: int, holders: Sequence[str], switch_at: int | None) -> Iterator[None]:
    """Turn a cancelled transaction into what its first failed condition means."""
    try:
        with typed_errors():
            yield
    except ClientError as error:
        if error.response["Error"]["Code"] != _CANCELLED:
            raise
        codes = [reason["Code"] for reason in error.response.get("CancellationReasons", [])]
        failed = [index for index, code in enumerate(codes) if code == _CONDITION]
        if not failed:
            others = [code for code in codes if code != _NOTHING_WRONG]
            if not others or not _PASSING.issuperset(others):
                raise  # a request that can never succeed must not read as one that came too fast
            raise Throttled(f"{_CANCELLED}: {', '.join(others)}") from error
        if failed[0] == switch_at:
            raise SwitchedOff from error
        if failed[0] >= holders_from:
            raise OverBudget(holders[failed[0] - holders_from]) from error
        raise Conflict(_CANCELLED) from error


def _sums(cap: str, change: CapChange) -> dict[str, int]:
    return {f"{cap}_{part}": by for part, by in change.parts().items()}


def _adding(
    key: dict[str, Any],
    sums: Mapping[str, int],
    condition: Mapping[str, Mapping[str, int]],
    values: Mapping[str, Any],
    *,
    named: Sequence[str] = (),
    removed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the parameters of an update that adds to some attributes, sets others, and removes some."""
    ((expression, compared),) = condition.items()
    sets = [*(f"#{name} = #{name} + :{name}" for name in sums), *(f"#{name} = :{name}" for name in values)]
    clauses = [f"SET {', '.join(sets)}"] if sets else []
    clauses += [f"REMOVE {', '.join(f'#{name}' for name in removed)}"] if removed else []
    used = [*sums, *values, *named, *removed]
    if ":read" in compared:
        used.append("version")
    return {
        "Key": key,
        "ConditionExpression": expression,
        "UpdateExpression": " ".join(clauses),
        "ExpressionAttributeNames": {f"#{name}": name for name in used},
        "ExpressionAttributeValues": {
            **{f":{name}": {"N": str(amount)} for name, amount in sums.items()},
            **{f":{name}": value for name, value in serialized(values).items()},
            **{name: {"N": str(amount)} for name, amount in compared.items()},
        },
    }


def _unturned_condition(switch: Switch) -> dict[str, Any]:
    if switch.generation == 0:
        return {
            "ConditionExpression": "attribute_not_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": contract.PARTITION_KEY},
        }
    return {
        "ConditionExpression": "#generation = :generation",
        "ExpressionAttributeNames": {"#generation": "generation"},
        "ExpressionAttributeValues": {":generation": {"N": str(switch.generation)}},
    }


def _budget_key(holder: str) -> dict[str, Any]:
    return item_key(keys.budget_partition(holder), keys.BUDGET_SORT_KEY)


def _reservation_key(reservation: Reservation) -> dict[str, Any]:
    partition = keys.reservations_partition(reservation.run_id)
    return item_key(partition, keys.reservation_sort_key(reservation.submission))


def _listed_key(entry: Listed) -> dict[str, Any]:
    return item_key(keys.reservations_partition(entry.run_id), keys.reservation_sort_key(entry.submission or 0))


def _switch_key() -> dict[str, Any]:
    return item_key(keys.SWITCH_PARTITION, keys.SWITCH_SORT_KEY)


def _budget_attributes(budget: Budget) -> dict[str, Any]:
    caps = {f"{name}_{part}": getattr(getattr(budget, name), part) for name in _CAPS for part in _PARTS}
    return {"version": budget.version, "deployed_version": budget.deployed_version, **caps}


def _budget_of(holder: str, item: Mapping[str, Any]) -> Budget:
    caps = {name: Cap(**{part: item[f"{name}_{part}"] for part in _PARTS}) for name in _CAPS}
    # Earlier releases have not told whose limits they set: what is absent is 1, so they were a person's.
    versions = {name: item[name] for name in ("version", "deployed_version") if name in item}
    return Budget(holder=holder, fallback=caps["fallback"], total=caps["total"], **versions)


_RESERVATION_FIELDS: Final = (
    "run_id", "submission", "market", "microusd", "holders", "created_at", "job_queue", "usd_per_hour",
    "rolled_over_at", "booked_microusd", "settled_at", "spent_microusd", "version",
)  # fmt: skip


def _reservation_attributes(reservation: Reservation) -> dict[str, Any]:
    stored = {name: getattr(reservation, name) for name in _RESERVATION_FIELDS}
    stored["market"], stored["holders"] = reservation.market.value, list(reservation.holders)
    return {**stored, contract.LISTING_PARTITION_KEY: keys.LISTING_UNSETTLED}


def _reservation_of(item: Mapping[str, Any]) -> Reservation:
    known = {name: item[name] for name in _RESERVATION_FIELDS if name in item}
    return Reservation(**{**known, "market": Market(known["market"]), "holders": tuple(known["holders"])})
