"""Exceptions from cdk-nag and CDK's validation: each on one resource that exists, with a reason, and still needed.

The library checks none of it: an empty reason, an unknown rule, or one acknowledgement for a whole app are accepted.
`python -m tests.security.acknowledgements FOLDER…` tells which of those in cloud assemblies are not needed any more.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from unittest.mock import patch

# isort: split
import stacks  # noqa: F401 - first, because it chooses the Node that importing aws_cdk starts

# isort: split
from tests.security.finding import Finding

SHORTEST_REASON_CHARACTERS: Final = 40
_LIBRARYS_OWN: Final = "W3010"
"""CDK acknowledges it by itself, for zones that are given by name."""


class Acknowledgement(NamedTuple):
    """One rule, not applied at one construct and below."""

    path: str
    rule: str
    reason: str


def acknowledgements(folder: Path) -> list[Acknowledgement]:
    """Return this repository's acknowledgements in a cloud assembly."""
    return [
        Acknowledgement(path.strip("/"), rule.partition("::")[2], reason)
        for file in sorted(folder.glob("*.metadata.json"))
        for path, entries in json.loads(file.read_text()).items()
        for entry in entries
        if entry["type"] == "aws:cdk:acknowledged-rules"
        for rule, reason in entry["data"].items()
        if rule.partition("::")[2] != _LIBRARYS_OWN
    ]


def judge(folder: Path) -> list[Finding]:
    """Return what is wrong with the acknowledgements of a cloud assembly, but whether they are still needed."""
    existing = set(_paths(json.loads((folder / "tree.json").read_text())["tree"]))
    found = []
    for path, rule, reason in acknowledgements(folder):
        if "/" not in path:
            found.append(Finding("one_resource", path, f"acknowledges {rule} for a whole stack: do it on the resource"))
        if path not in existing:
            found.append(Finding("existing_resource", path, f"acknowledges {rule}, and there is no such construct"))
        if len(reason.strip()) < SHORTEST_REASON_CHARACTERS:
            found.append(
                Finding("reasoned", path, f"acknowledges {rule} because {reason!r}: say why it does not apply")
            )
    return found


def unneeded(environment: str, folder: Path) -> list[Finding]:
    """Synthesize again without acknowledgements, and return those whose finding does not appear."""
    present = findings_without_acknowledgements(environment)
    return [
        Finding("still_needed", path, f"acknowledges {rule}, which finds nothing there: remove the acknowledgement")
        for path, rule, _ in acknowledgements(folder)
        if not any(name == rule and f"{found}/".startswith(f"{path}/") for found, name in present)
    ]


def findings_without_acknowledgements(environment: str) -> set[tuple[str, str]]:
    """Return construct paths and rules of everything that the scanners find when nothing is acknowledged."""
    # Here, because starting Node takes seconds, which reading an assembly does not need.
    from aws_cdk import Validations

    import app

    with TemporaryDirectory() as folder, patch.object(Validations, "acknowledge"):
        built = app.build(environment, folder)
        try:
            built.synth()
        except RuntimeError:
            report: dict[str, Any] = json.loads((Path(folder) / "validation-report.json").read_text())
        else:
            return set()
    return {
        (construct["constructPath"], violation["ruleName"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }


def _paths(node: dict[str, Any]) -> Iterator[str]:
    yield node["path"]
    for child in node.get("children", {}).values():
        yield from _paths(child)


def main() -> None:
    """Print what is not needed any more in the assemblies named by folder; exit 1 if there is anything."""
    found = [str(finding) for name in sys.argv[1:] for finding in unneeded(Path(name).name, Path(name))]
    print("\n".join(found) if found else "acknowledgements: all needed")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
