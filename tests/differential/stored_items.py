"""The items that a table should have, told from what a fake holds; written apart from the adapters, to check them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from spotkeeper.control.aws.ledger import read_plain
from spotkeeper.control.budget import Budget, Reservation, Switch
from spotkeeper.control.listing import Position
from spotkeeper.control.run import Attempt, HistoryEvent, Interruption, Run

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Items = dict[tuple[str, str], dict[str, Any]]
"""Attributes by key."""

NOT_IN_FAKES = frozenset({"pk", "sk", "expires_at"})


def attributes(value: Any, *left_out: str) -> dict[str, Any]:
    """Return the fields of a record that an item has: those that are not None, as DynamoDB returns them."""
    named = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in left_out}
    return {name: _stored(part) for name, part in named.items() if part is not None}


def _stored(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return {name: part for name, part in asdict(value).items() if part is not None} if _is_record(value) else value


def _is_record(value: Any) -> bool:
    return hasattr(value, "__dataclass_fields__")


def run_item(run: Run) -> dict[str, Any]:
    return {**attributes(run), "listing": "closed" if run.is_closed else "open"}


def expected_items(
    *,
    runs: Iterable[Run],
    attempts: Iterable[Attempt],
    interruptions: Iterable[Interruption],
    events: Mapping[tuple[str, str, str], HistoryEvent],
    slots: Mapping[int, Mapping[str, int]],
    budgets: Iterable[Budget],
    reservations: Iterable[Reservation],
    switch: Switch,
    starts: Mapping[str, str],
    positions: Mapping[str, Position],
) -> Items:
    items: Items = {(f"RUN#{run.run_id}", "RUN"): run_item(run) for run in runs}
    for attempt in attempts:
        written = attributes(attempt, "run_id", *([] if attempt.version else ["version"]))
        items[f"RUN#{attempt.run_id}", f"ATTEMPT#{attempt.submission:04d}#{attempt.attempt:02d}"] = written
    for (run_id, at, event_id), event in events.items():
        items[f"RUN#{run_id}", f"EVENT#{at}#{event_id}"] = attributes(event)
    for interruption in interruptions:
        items[f"INSTANCE#{interruption.instance_id}", "INTERRUPTION"] = attributes(interruption)
    for second, taken in slots.items():
        teams = {f"num_submissions_of_{team}": number for team, number in taken.items() if number}
        if teams:
            items[f"SUBMISSIONS#{second}", "SLOTS"] = {**teams, "num_submissions": sum(teams.values())}
    for budget in budgets:
        caps = {
            f"{name}_{part}": amount
            for name in ("fallback", "total")
            for part, amount in asdict(getattr(budget, name)).items()
        }
        versions = attributes(budget, "holder", "fallback", "total")
        items[f"BUDGET#{budget.holder}", "BUDGET"] = {**caps, **versions}
    for made in reservations:
        unsettled = {} if made.settled_at else {"listing": "unsettled"}
        items[f"RESERVATIONS#{made.run_id}", f"RESERVATION#{made.submission:04d}"] = {**attributes(made), **unsettled}
    items.update({(f"QUEUE#{queue}", "START"): {"started_at": at} for queue, at in starts.items()})
    items.update({("SWEEPER", f"POSITION#{listing}"): attributes(position) for listing, position in positions.items()})
    if switch.generation:
        items["SWITCH", "SWITCH"] = attributes(switch)
    return items


def items_of_table(client: "DynamoDBClient", table: str) -> Items:
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    plain = [read_plain(item) for page in pages for item in page["Items"]]
    return {(item["pk"], item["sk"]): without_keys(item) for item in plain}


def without_keys(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in NOT_IN_FAKES}
