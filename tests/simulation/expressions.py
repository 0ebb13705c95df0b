"""DynamoDB's `UpdateItem`, as far as the contract's two conditional writes use its grammar, on plain values.

    condition  = conjunct { OR conjunct }          conjunct = term { AND term }
    term       = ( condition ) | attribute_not_exists(#n) | #n IN (:v, …) | #n (= | <> | <=) :v
    update     = SET assignment, … [ REMOVE #n, … ]          assignment = #n = :v | #n = #n + :v

A test compares it with moto's on random items.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

Item = Mapping[str, Any]
"""Attributes that exist, by name."""

_Condition = Callable[[Item, Mapping[str, str], Mapping[str, Any]], bool]
_TOKEN: Final = re.compile(r"\s*([#:]\w+|\w+|<>|<=|[=(),+])")
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<=": lambda left, right: left is not None and type(left) is type(right) and left <= right,
}


class ConditionFailed(Exception):  # noqa: N818 - DynamoDB's own word
    """The condition does not hold; nothing was written. `item` is as it is, for a request that asks to be shown."""

    def __init__(self, item: Item | None = None) -> None:
        super().__init__()
        self.item = item


def update_item(item: Item, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that the request changes; None stands for one that it removes.

    Raises:
        ConditionFailed: the request's condition does not hold for the item.
    """
    names: Mapping[str, str] = request["ExpressionAttributeNames"]
    values = {name: plain(value) for name, value in request["ExpressionAttributeValues"].items()}
    if not _condition(request["ConditionExpression"])(item, names, values):
        raise ConditionFailed(item if request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else None)
    sets, _, removed = request["UpdateExpression"].partition(" REMOVE ")
    changes: dict[str, Any] = {names[target]: None for target in removed.split(", ") if target}
    for target, addend, value in _assignments(sets):
        changes[names[target]] = values[value] if addend is None else item[names[addend]] + values[value]
    return changes


def plain(value: Mapping[str, Any]) -> Any:
    """Return a typed attribute value ({"N": "1"}) as Python has it."""
    ((kind, content),) = value.items()
    if kind == "M":
        return {name: plain(part) for name, part in content.items()}
    return int(content) if kind == "N" else content


@cache
def _condition(expression: str) -> _Condition:
    tokens = _tokens(expression)
    condition = _disjunction(tokens)
    assert not tokens, f"not understood: {' '.join(tokens)} in {expression}"
    return condition


def _tokens(expression: str) -> list[str]:
    tokens = _TOKEN.findall(expression)
    assert "".join(tokens) == expression.replace(" ", ""), f"not understood: {expression}"
    return tokens


def _disjunction(tokens: list[str]) -> _Condition:
    parts = [_conjunction(tokens)]
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        parts.append(_conjunction(tokens))
    return lambda item, names, values: any(part(item, names, values) for part in parts)


def _conjunction(tokens: list[str]) -> _Condition:
    parts = [_term(tokens)]
    while tokens[:1] == ["AND"]:
        tokens.pop(0)
        parts.append(_term(tokens))
    return lambda item, names, values: all(part(item, names, values) for part in parts)


def _term(tokens: list[str]) -> _Condition:
    first = tokens.pop(0)
    if first == "(":
        inner = _disjunction(tokens)
        _expect(tokens, ")")
        return inner
    if first == "attribute_not_exists":
        _expect(tokens, "(")
        name = tokens.pop(0)
        _expect(tokens, ")")
        return lambda item, names, _: names[name] not in item
    operator = tokens.pop(0)
    if operator == "IN":
        _expect(tokens, "(")
        options = [tokens.pop(0)]
        while tokens.pop(0) == ",":
            options.append(tokens.pop(0))
        return lambda item, names, values: item.get(names[first]) in [values[option] for option in options]
    compare = _COMPARISONS[operator]
    value = tokens.pop(0)
    return lambda item, names, values: compare(item.get(names[first]), values[value])


def _expect(tokens: list[str], expected: str) -> None:
    found = tokens.pop(0)
    assert found == expected, f"{found} where {expected} was expected"


@cache
def _assignments(expression: str) -> tuple[tuple[str, str | None, str], ...]:
    """Return (target, attribute to add to or None, value) of each assignment."""
    assignments: list[tuple[str, str | None, str]] = []
    for clause in expression.removeprefix("SET ").split(", "):
        match _tokens(clause):
            case [target, "=", value]:
                assignments.append((target, None, value))
            case [target, "=", addend, "+", value]:
                assignments.append((target, addend, value))
            case _:
                raise AssertionError(f"not understood: {clause}")
    return tuple(assignments)
