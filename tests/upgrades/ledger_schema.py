"""The shape of what the ledger stores, told from the contract, the adapters' records and the table."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import ModuleType
from typing import Any, Final, get_args, get_type_hints

from spotkeeper.contract import budgets as budget_keys
from spotkeeper.contract import ledger as ledger_keys
from spotkeeper.control.aws import budgets, ledger, others, sweeps
from tests.stacks.synthesized import Template

_ADAPTERS: Final = (ledger, budgets, others, sweeps)
"""All that writes the table, but for what an attempt writes itself: fields of the same records."""
_TABLE_PROPERTIES: Final = (
    "KeySchema",
    "AttributeDefinitions",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "TimeToLiveSpecification",
)


def ledger_schema(storage: Template) -> dict[str, dict[str, Any]]:
    """Return names and shapes: of the table, of its keys, and of the records and states in its items."""
    (table,) = (item["Properties"] for item in storage["Resources"].values() if item["Type"] == "AWS::DynamoDB::Table")
    return {
        "table": {name: table[name] for name in _TABLE_PROPERTIES if name in table},
        "keys": {**_keys(ledger_keys), **_keys(budget_keys)},
        **{record.__name__: _shape(record) for record in _records()},
    }


def changes(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of what was added, removed or changed, such as `Run.submission`."""
    named = [
        {f"{group}.{name}": value for group, members in schema.items() for name, value in members.items()}
        for schema in (old, new)
    ]
    absent = object()
    return sorted(
        name for name in named[0].keys() | named[1].keys() if named[0].get(name, absent) != named[1].get(name, absent)
    )


def _keys(module: ModuleType) -> dict[str, str]:
    """Constants, and what the key functions make of `<argument>`."""
    made = {}
    for name, value in vars(module).items():
        if name.isupper() and isinstance(value, str):
            made[name] = value
        elif inspect.isfunction(value) and name.endswith(("_partition", "_sort_key", "_holder")):
            arguments = inspect.signature(value).parameters.values()
            made[name] = value(*(1 if item.annotation is int else f"<{item.name}>" for item in arguments))
    return made


def _records() -> list[type[Any]]:
    """The dataclasses that the adapters know, and the types of their fields."""
    found: dict[str, type[Any]] = {}
    waiting = [kind for adapter in _ADAPTERS for kind in vars(adapter).values() if _is_record(kind)]
    while waiting:
        kind = waiting.pop()
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            waiting += [] if issubclass(kind, Enum) else _field_types(kind)
    return [found[name] for name in sorted(found)]


def _is_record(value: Any) -> bool:
    is_ours = isinstance(value, type) and value.__module__.startswith("spotkeeper.")
    return is_ours and (is_dataclass(value) or issubclass(value, Enum))


def _field_types(record: type[Any]) -> Iterator[type[Any]]:
    for hint in get_type_hints(record).values():
        yield from (kind for kind in (hint, *get_args(hint)) if _is_record(kind))


def _shape(record: type[Any]) -> dict[str, str]:
    if issubclass(record, Enum):
        return {member.name: str(member.value) for member in record}
    hints = get_type_hints(record)
    return {field.name: _type_name(hints[field.name]) for field in fields(record)}


def _type_name(hint: Any) -> str:
    return str(hint) if get_args(hint) else hint.__name__
