"""Which resources CloudFormation would delete or replace on the way from one template to another.

By the resource providers' own schemas, as cfn-lint carries them: a change of a create-only property replaces.
"""

from typing import Any

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from tests.stacks.synthesized import REGION, Template


def lost(before: Template, after: Template) -> dict[str, str]:
    """Return the logical ids that would not outlive the change, each with the reason."""
    found = {}
    for id_, old in before["Resources"].items():
        new = after["Resources"].get(id_)
        if new is None:
            found[id_] = "removed"
        elif new["Type"] != old["Type"]:
            found[id_] = f"{old['Type']} becomes {new['Type']}"
        else:
            changed = [path for path in _create_only(old["Type"]) if _at(old, path) != _at(new, path)]
            if changed:
                found[id_] = f"{', '.join(changed)} cannot change in place"
    return found


def _create_only(type_: str) -> list[str]:
    schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, type_).schema
    return [*schema.get("createOnlyProperties", []), *schema.get("conditionalCreateOnlyProperties", [])]


def _at(resource: dict[str, Any], path: str) -> Any:
    value: Any = {"properties": resource.get("Properties", {})}
    for name in path.strip("/").split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value
