"""What IAM answers to a request within one account, from the policies of a template.

An explicit deny wins; then any allow, of the identity's policies or of the resource's, is enough; else the answer is
no. docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. What is not written here
(an operator, an element) is refused rather than guessed. Not evaluated: boundaries, session policies, SCPs.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Statement = Mapping[str, Any]
Context = Mapping[str, str | list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call, as the service presents it to IAM."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    """Condition keys that the request has; a key that it lacks is not there."""


def is_allowed(request: Request, identity: Iterable[Statement], resource: Iterable[Statement] = ()) -> bool:
    """Return whether a role with these statements may make the request; `resource` is the resource's own policy."""
    matching = [statement for statement in (*identity, *resource) if _matches(statement, request)]
    effects = {statement["Effect"] for statement in matching}
    return "Deny" not in effects and "Allow" in effects


_KNOWN: Final = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}


def _matches(statement: Statement, request: Request) -> bool:
    if unknown := statement.keys() - _KNOWN:
        raise NotImplementedError(f"statement {statement.get('Sid')!r} has {sorted(unknown)}")
    return (
        statement.get("Principal", "*") in ("*", {"AWS": "*"})
        and any(_like(pattern.lower(), request.action.lower()) for pattern in _listed(statement["Action"]))
        and any(_like(pattern, request.resource) for pattern in _listed(statement["Resource"]))
        and all(
            _holds(operator, key, _listed(wanted), request.context)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool:
    given = _listed(context.get(key, []))
    if operator == "Null":
        return [str(not given).lower()] == [str(value).lower() for value in wanted]
    quantifier, _, test = operator.rpartition(":")
    if quantifier not in ("", "ForAllValues", "ForAnyValue") or test not in _TESTS:
        raise NotImplementedError(f"condition operator {operator!r}")
    if quantifier == "ForAllValues":
        return all(any(_TESTS[test](value, pattern) for pattern in wanted) for value in given)
    if quantifier == "ForAnyValue":
        return any(_TESTS[test](value, pattern) for value in given for pattern in wanted)
    assert len(given) <= 1, f"{key} has several values, so {operator} needs a quantifier"
    return any(_TESTS[test](value, pattern) for value in given for pattern in wanted)


def _like(pattern: str, text: str) -> bool:
    parts = {"*": ".*", "?": "."}
    return bool(re.fullmatch("".join(parts.get(part) or re.escape(part) for part in pattern), text, re.DOTALL))


_TESTS: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "ArnEquals": lambda value, pattern: _like(pattern, value),
    "ArnLike": lambda value, pattern: _like(pattern, value),
    "Bool": lambda value, wanted: value == str(wanted).lower(),
    "NumericLessThan": lambda value, limit: float(value) < float(limit),
    "NumericLessThanEquals": lambda value, limit: float(value) <= float(limit),
    "StringEquals": lambda value, wanted: bool(value == wanted),
    "StringLike": lambda value, pattern: _like(pattern, value),
}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
