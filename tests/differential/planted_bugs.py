"""Bugs that an adapter, or the trainer, might have, planted in the requests that it sends."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONDITION, UPDATE = "ConditionExpression", "UpdateExpression"
ALWAYS: Final = "attribute_not_exists(#nowhere)"


@dataclass(frozen=True, slots=True)
class Bug:
    """What an expression of the writes to some kind of item says instead."""

    sort_key: str
    """How the sort key of the items begins."""
    expression: str
    pattern: str
    instead: str = ""


BUGS: Final[Mapping[str, Bug]] = {
    "a run may be written from any version": Bug("RUN", CONDITION, "#version = :read", ALWAYS),
    "the version read is compared with another field": Bug("RUN", CONDITION, "#version = :read", "#submission = :read"),
    "a run may be created twice": Bug("RUN", CONDITION, r"attribute_not_exists\(#pk\)", ALWAYS),
    "None does not remove a field": Bug("RUN", UPDATE, " REMOVE .*"),
    "a closed run stays in the open list": Bug("RUN", UPDATE, ", #listing = :listing"),
    "a claim ignores the last attempt": Bug("RUN", CONDITION, r" AND \(attribute_not_exists\(#claimed_job\).*"),
    "a claim ignores the user's wish": Bug("RUN", CONDITION, r" AND attribute_not_exists\(#(cancel|pause)\)"),
    "a completed run may be claimed": Bug("RUN", CONDITION, r" AND attribute_not_exists\(#completion\)"),
    "any epoch may record its completion": Bug("RUN", CONDITION, "#epoch = :epoch AND "),
    "any job may pose as the standby": Bug("RUN", CONDITION, "#standby_submission = :submission AND "),
    "an attempt may be written from any version": Bug("ATTEMPT", CONDITION, ".+", ALWAYS),
    "an event may change what was recorded": Bug("EVENT", CONDITION, ".+", ALWAYS),
    "a later notice replaces the first": Bug("INTERRUPTION", UPDATE, r"if_not_exists\(#f\d, (:f\d)\)", r"\1"),
    "a team may take every slot": Bug("SLOTS", CONDITION, r" AND \(attribute_not_exists\(#team\).*"),
    "nobody is asked what is left": Bug("BUDGET", CONDITION, ".*available >= :asked.*", "attribute_exists(#pk)"),
    "only the total is asked": Bug("BUDGET", CONDITION, "#fallback_available >= :asked AND "),
    "the last dollar cannot be spent": Bug("BUDGET", CONDITION, ">= :asked", "> :asked"),
    "limits may be set from any version": Bug("BUDGET", CONDITION, "#version = :read", ALWAYS),
    "nothing is taken from the total": Bug("BUDGET", UPDATE, r"#total_available = [^,]+, "),
    "a submission may be reserved for twice": Bug("RESERVATION", CONDITION, r"attribute_not_exists\(#pk\)", ALWAYS),
    "a reservation may be settled twice": Bug("RESERVATION", CONDITION, r" AND attribute_not_exists\(#settled_at\)"),
    "a reservation may be settled from any version": Bug("RESERVATION", CONDITION, "#version = :read AND "),
    "what is settled stays in the list": Bug("RESERVATION", UPDATE, " REMOVE .*"),
    "the switch may be turned since it was read": Bug("SWITCH", CONDITION, ".+", ALWAYS),
}


@contextmanager
def planted(bug: Bug, client: "DynamoDBClient") -> Iterator[None]:
    """Change what the client sends."""

    def changed(params: dict[str, Any], **_: Any) -> Any:
        params = deepcopy(params)
        for write in actions_of(params):
            if _sort_key(write).startswith(bug.sort_key) and bug.expression in write:
                write[bug.expression] = re.sub(bug.pattern, bug.instead, write[bug.expression])
                _tidy(write)
        return params

    client.meta.events.register("provide-client-params.dynamodb.*", changed)
    try:
        yield
    finally:
        client.meta.events.unregister("provide-client-params.dynamodb.*", changed)


def actions_of(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the actions of a transaction, or the request itself."""
    return [next(iter(action.values())) for action in params.get("TransactItems", [])] or [params]


def _sort_key(write: Mapping[str, Any]) -> str:
    text = (write.get("Key") or write.get("Item") or {}).get("sk", {}).get("S", "")
    assert isinstance(text, str)
    return text


def _tidy(write: dict[str, Any]) -> None:
    """Define just the names and values that are used, as a programmer who made this mistake would have done."""
    used = set(re.findall(r"[#:]\w+", " ".join([write.get(CONDITION, ""), write.get(UPDATE, "")])))
    names, values = write.get("ExpressionAttributeNames", {}), write.get("ExpressionAttributeValues", {})
    write["ExpressionAttributeNames"] = {name: names.get(name, name[1:]) for name in used if name.startswith("#")}
    write["ExpressionAttributeValues"] = {name: values[name] for name in used if name.startswith(":")}
    for kind in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
        if not write[kind]:
            del write[kind]
