"""Which resources CloudFormation would remove or replace on the way from one release's templates to another's.

What a change of a property does comes from the resource schemas that AWS publishes and cfn-lint bundles:
createOnlyProperties are replaced on any change, conditionalCreateOnlyProperties on some. `cdk diff` tells the same from
the same schemas, but needs an account for what is deployed.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from tests.stacks.synthesized import REGION, Resource, Template

Templates = Mapping[str, Template]
Place = tuple[str, str]
"""Stack and logical id."""

STATEFUL: Final = frozenset(
    {
        "AWS::S3::Bucket",
        "AWS::DynamoDB::Table",
        "AWS::DynamoDB::GlobalTable",
        "AWS::ECR::Repository",
        "AWS::KMS::Key",
    }
)
IN_USE: Final = frozenset(
    {
        # Jobs run in it, and a queue that refers to it keeps it from being deleted.
        "AWS::Batch::ComputeEnvironment",
        # Jobs wait in it, and runs name it.
        "AWS::Batch::JobQueue",
        # Runs are pinned to its revisions.
        "AWS::Batch::JobDefinition",
        # Hosts stand in them, and another stack imports them.
        "AWS::EC2::VPC",
        "AWS::EC2::Subnet",
    }
)
_RETAINED: Final = frozenset({"Retain", "RetainExceptOnCreate", "Snapshot"})
_IN_PLACE_STRATEGIES: Final = frozenset(
    {"BEST_FIT_PROGRESSIVE", "SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED"}
)
"""docs.aws.amazon.com/batch/latest/userguide/infrastructure-updates.html: others refuse infrastructure updates."""


class Loss(NamedTuple):
    """A resource that an upgrade would take away."""

    stack: str
    logical_id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.stack}/{self.logical_id}: {self.reason}"


def losses(old: Templates, new: Templates) -> list[Loss]:
    """Return what an upgrade would remove, replace or no longer retain of what is stateful or in use."""
    replaced = _replaced(old, new)
    found = []
    for stack, template in old.items():
        for id_, resource in template["Resources"].items():
            if not _is_protected(resource):
                continue
            today = new.get(stack, {}).get("Resources", {}).get(id_)
            if today is None:
                found.append(Loss(stack, id_, _removal(resource, new, stack)))
            elif (stack, id_) in replaced:
                found.append(Loss(stack, id_, replaced[stack, id_]))
            elif is_retained(resource) and not is_retained(today):
                found.append(Loss(stack, id_, "is no longer retained when it is removed or replaced"))
    return found


def is_retained(resource: Resource) -> bool:
    """Whether CloudFormation leaves the resource in the account, whatever becomes of the stack."""
    return resource.get("DeletionPolicy") in _RETAINED and resource.get("UpdateReplacePolicy") in _RETAINED


def _is_protected(resource: Resource) -> bool:
    return resource["Type"] in STATEFUL | IN_USE


def _removal(resource: Resource, new: Templates, stack: str) -> str:
    same_type = [
        id_ for id_, item in new.get(stack, {}).get("Resources", {}).items() if item["Type"] == resource["Type"]
    ]
    return f"{resource['Type']} is removed, or has another logical id: today's are {same_type}"


def _replaced(old: Templates, new: Templates) -> dict[Place, str]:
    """Return every replaced resource with its reason; a reference to one is a changed value in its turn."""
    replaced: dict[Place, str] = {}
    exports = _exports(new)
    while True:
        found = {}
        for place, before, after in _in_both(old, new):
            reason = _reason(before, after) or _follows(place, after, replaced, exports)
            if reason and place not in replaced:
                found[place] = reason
        if not found:
            return replaced
        replaced |= found


def _in_both(old: Templates, new: Templates) -> Iterator[tuple[Place, Resource, Resource]]:
    for stack, template in old.items():
        today = new.get(stack, {}).get("Resources", {})
        for id_, before in template["Resources"].items():
            if id_ in today:
                yield (stack, id_), before, today[id_]


def _reason(before: Resource, after: Resource) -> str | None:
    """Why a change of the resource itself replaces it."""
    if before["Type"] != after["Type"]:
        return f"is of type {after['Type']}, and was {before['Type']}"
    if before["Type"] == "AWS::Batch::ComputeEnvironment" and (refused := _refused_in_place(before, after)):
        return refused
    for path in _replacing_properties(after):
        one, two = _value(before, path), _value(after, path)
        if one != two:
            return f"is replaced, because {'.'.join(path)} changes from {one!r} to {two!r}"
    return None


def _follows(place: Place, after: Resource, replaced: Mapping[Place, str], exports: Mapping[str, Place]) -> str | None:
    """Why the replacement of another resource replaces this one."""
    for path in _replacing_properties(after):
        for other in _references(_value(after, path), place[0], exports):
            if other in replaced:
                return f"is replaced, because {'.'.join(path)} refers to {other[1]}, which is replaced"
    return None


def _replacing_properties(resource: Resource) -> Iterator[tuple[str, ...]]:
    create_only, conditional = _schema_paths(resource["Type"])
    yield from create_only
    # A compute environment that is changed in place is never replaced by these: AWS Batch updates its infrastructure.
    is_in_place = resource.get("Properties", {}).get("ReplaceComputeEnvironment") is False
    if not is_in_place:
        yield from conditional


def _refused_in_place(before: Resource, after: Resource) -> str | None:
    old, new = before.get("Properties", {}), after.get("Properties", {})
    if old == new:
        return None
    if new.get("ReplaceComputeEnvironment") is not False:
        return "may be replaced by any change: ReplaceComputeEnvironment must be false"
    strategy = old.get("ComputeResources", {}).get("AllocationStrategy")
    if strategy not in _IN_PLACE_STRATEGIES and old.get("ComputeResources") != new.get("ComputeResources"):
        return f"cannot be changed in place: AWS Batch refuses that for allocation strategy {strategy!r}"
    return None


@cache
def _schema_paths(type_: str) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, type_).schema
    create_only, conditional = (
        tuple(tuple(pointer.split("/")[2:]) for pointer in schema.get(name) or ())
        for name in ("createOnlyProperties", "conditionalCreateOnlyProperties")
    )
    return create_only, conditional


def _value(resource: Resource, path: tuple[str, ...]) -> Any:
    return _within(resource.get("Properties", {}), path)


def _within(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return value
    if isinstance(value, list):
        return [_within(item, path[1:] if path[0] == "*" else path) for item in value]
    return _within(value.get(path[0]), path[1:]) if isinstance(value, dict) else None


def _exports(templates: Templates) -> dict[str, Place]:
    """Return the resource behind each exported name."""
    return {
        output["Export"]["Name"]: place
        for stack, template in templates.items()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
        for place in _references(output["Value"], stack, {})
    }


def _references(value: Any, stack: str, exports: Mapping[str, Place]) -> Iterator[Place]:
    """Return what a value in a stack refers to."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item, stack, exports)
    elif isinstance(value, dict):
        for function, argument in value.items():
            if function == "Ref":
                yield stack, argument
            elif function == "Fn::GetAtt":
                yield stack, argument[0]
            elif function == "Fn::ImportValue" and argument in exports:
                yield exports[argument]
            else:
                yield from _references(argument, stack, exports)
