"""Who is allowed what, over everything that was synthesized."""

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

from tests.stacks.synthesized import Assembly

Statement = dict[str, Any]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(assembly: Assembly) -> Iterator[tuple[str, Statement]]:
    """Every statement of every identity policy, resolved, with the id of the role or managed policy that holds it."""
    for stack, template in assembly.templates.items():
        for id_, resource in template["Resources"].items():
            for holder, document in _documents(id_, resource):
                for statement in as_list(document["Statement"]):
                    yield holder, assembly.resolved(stack, statement)


def _documents(id_: str, resource: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    properties = resource.get("Properties", {})
    match resource["Type"]:
        case "AWS::IAM::Policy" | "AWS::IAM::RolePolicy" | "AWS::IAM::UserPolicy" | "AWS::IAM::GroupPolicy":
            holders = properties.get("Roles") or [properties.get("RoleName") or id_]
            for holder in holders:
                yield (holder["Ref"] if isinstance(holder, dict) else str(holder)), properties["PolicyDocument"]
        case "AWS::IAM::ManagedPolicy":
            yield id_, properties["PolicyDocument"]
        case "AWS::IAM::Role" | "AWS::IAM::User" | "AWS::IAM::Group":
            for policy in properties.get("Policies", ()):
                yield id_, policy["PolicyDocument"]


def applies(statement: Statement, action: str, resource: str) -> bool:
    """Whether a statement speaks of an action on a resource, conditions aside: they could be met."""
    actions, resources = as_list(statement.get("Action", [])), as_list(statement.get("Resource", []))
    by_action = (
        not _matches(action, as_list(statement["NotAction"]))
        if "NotAction" in statement
        else _matches(action.lower(), [pattern.lower() for pattern in actions])
    )
    by_resource = (
        not _matches(resource, as_list(statement["NotResource"]))
        if "NotResource" in statement
        else _matches(resource, resources)
    )
    return by_action and by_resource


def _matches(text: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def allowed_holders(assembly: Assembly, action: str, resource: str) -> set[str]:
    """Roles and managed policies that allow an action on a resource and do not deny it themselves."""
    said = [
        (holder, statement["Effect"])
        for holder, statement in statements(assembly)
        if applies(statement, action, resource)
    ]
    return {holder for holder, effect in said if effect == "Allow"} - {
        holder for holder, effect in said if effect == "Deny"
    }


def queues_of(assembly: Assembly, market: str) -> list[str]:
    """ARNs of the queues of a market, by what the environment tells the command line."""
    (parameter,) = assembly.resources("batch", "AWS::SSM::Parameter").values()
    stored = json.loads(assembly.resolved("batch", parameter["Properties"]["Value"]))
    return [profile[f"{market}_queue"] for profile in stored["profiles"].values()]
