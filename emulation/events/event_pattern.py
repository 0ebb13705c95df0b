"""EventBridge's event patterns: does this event match that pattern?

Semantics: docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html and, for arrays,
github.com/aws/event-ruler ("array consistency"). A pattern names paths; all of them must match, and paths through
the same array must match within the same element. moto's matcher does not enter arrays of objects.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

_Path = tuple[str, ...]
# For each array on the way to a value, named by its path and the elements before it: the element taken.
_Membership = Mapping[tuple[Any, ...], int]
_Field = tuple[Any, _Membership]


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Tell whether `event` matches `pattern`. An empty pattern matches nothing: AWS refuses it.

    Raises:
        ValueError: if the pattern is not one; the message names the path and what is wrong there.
    """
    fields: dict[_Path, list[_Field]] = {}
    for path, value, membership in _flatten(event, (), {}):
        fields.setdefault(path, []).append((value, membership))
    return any(_consistent(list(alternative.items()), fields, {}) for alternative in _alternatives(pattern, ()))


def _flatten(node: Any, path: _Path, membership: _Membership) -> Iterator[tuple[_Path, Any, _Membership]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flatten(value, (*path, key), membership)
    elif isinstance(node, list):
        array = (path, *membership.items())
        for index, item in enumerate(node):
            yield from _flatten(item, path, {**membership, array: index})
    else:
        yield path, node, membership


def _alternatives(pattern: Mapping[str, Any], path: _Path) -> list[dict[_Path, Sequence[Any]]]:
    """Multiply out `$or`: each result is a conjunction of paths and the values that each accepts."""
    if not pattern:
        raise ValueError(f"event pattern is empty at {'.'.join(path) or 'its root'}")
    combined: list[dict[_Path, Sequence[Any]]] = [{}]
    for key, value in pattern.items():
        if key == "$or":
            choices = [choice for branch in value for choice in _alternatives(branch, path)]
        elif isinstance(value, Mapping):
            choices = _alternatives(value, (*path, key))
        elif isinstance(value, list) and value:
            choices = [{(*path, key): value}]
        else:
            raise ValueError(
                f"event pattern at {'.'.join((*path, key))} must be an object or an array with values; got {value!r}"
            )
        combined = [{**left, **right} for left in combined for right in choices]
    return combined


def _consistent(
    wanted: list[tuple[_Path, Sequence[Any]]], fields: Mapping[_Path, list[_Field]], taken: _Membership
) -> bool:
    """Find, for each path, a value that is accepted and agrees with the array elements taken so far."""
    if not wanted:
        return True
    (path, accepted), rest = wanted[0], wanted[1:]
    present = fields.get(path, [])
    if any(isinstance(test, dict) and test.get("exists") is False for test in accepted) and not present:
        return _consistent(rest, fields, taken)
    for value, membership in present:
        agrees = all(taken.get(array, index) == index for array, index in membership.items())
        accepts = agrees and any(_accepts(test, value) for test in accepted)
        if accepts and _consistent(rest, fields, {**taken, **membership}):
            return True
    return False


def _accepts(test: Any, value: Any) -> bool:
    if not isinstance(test, dict):
        return _equal(test, value)
    if len(test) != 1:
        raise ValueError(f"a match expression of an event pattern has one operator; got {sorted(test)}")
    ((operator, argument),) = test.items()
    if operator not in _OPERATORS:
        raise ValueError(f"unknown operator {operator!r} in an event pattern; known: {sorted(_OPERATORS)}")
    return _OPERATORS[operator](argument, value)


def _equal(wanted: Any, value: Any) -> bool:
    # JSON's true is not 1, though Python's is.
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)


def _text(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    """Make an operator on strings; its argument may be one, several, or `{"equals-ignore-case": …}`."""

    def apply(argument: Any, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if isinstance(argument, dict):
            return test(argument["equals-ignore-case"].lower(), value.lower())
        return any(test(wanted, value) for wanted in (argument if isinstance(argument, list) else [argument]))

    return apply


def _anything_but(argument: Any, value: Any) -> bool:
    if isinstance(argument, dict):
        return not _accepts(argument, value)
    return not any(_equal(wanted, value) for wanted in (argument if isinstance(argument, list) else [argument]))


def _numeric(argument: Any, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return all(
        _COMPARISONS[operator](value, bound) for operator, bound in zip(argument[::2], argument[1::2], strict=True)
    )


def _cidr(argument: Any, value: Any) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(argument)
    except ValueError:
        return False


def _wildcard(wanted: str, value: str) -> bool:
    # Only * is special to EventBridge: fnmatch would take ? and [ as well.
    return re.fullmatch(".*".join(re.escape(part) for part in wanted.split("*")), value, re.DOTALL) is not None


_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    "=": lambda value, bound: value == bound,
    ">=": lambda value, bound: value >= bound,
    ">": lambda value, bound: value > bound,
}

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _text(lambda wanted, value: wanted.lower() == value.lower()),
    "exists": lambda argument, _: bool(argument),
    "numeric": _numeric,
    "prefix": _text(lambda wanted, value: value.startswith(wanted)),
    "suffix": _text(lambda wanted, value: value.endswith(wanted)),
    "wildcard": _text(_wildcard),
}
