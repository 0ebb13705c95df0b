"""Reads IAM policy statements, whose every part may be one value or a list of them."""

from collections.abc import Iterator, Mapping
from typing import Any

Statement = Mapping[str, Any]

SOURCE_KEYS = frozenset({"aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths"})
"""The conditions by which a service that acts for others is bound to whom it acts for."""


def as_list(value: Any) -> list[Any]:
    """Return the values of a part."""
    return value if isinstance(value, list) else [value]


def statements_of(document: Mapping[str, Any]) -> list[Statement]:
    """Return the statements of a policy document."""
    return as_list(document["Statement"])


def allowing(document: Mapping[str, Any]) -> Iterator[Statement]:
    """Return the statements that allow something."""
    return (statement for statement in statements_of(document) if statement["Effect"] == "Allow")


def principals(statement: Statement, kind: str) -> list[Any]:
    """Return the principals of a kind (AWS, Service, Federated); "*" is everybody, in every kind."""
    named = statement.get("Principal", {})
    return ["*"] if named == "*" else as_list(named.get(kind, []))


def condition_keys(statement: Statement) -> set[str]:
    """Return the keys of all conditions, in lower case: IAM does not distinguish."""
    return {key.lower() for operator in statement.get("Condition", {}).values() for key in operator}


def is_bound_to_a_source(statement: Statement) -> bool:
    """Whether a condition says for which account or resource a service may act."""
    return bool(condition_keys(statement) & SOURCE_KEYS)
