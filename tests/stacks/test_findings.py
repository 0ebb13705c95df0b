import json
from collections.abc import Callable
from pathlib import Path

import aws_cdk as cdk
import pytest

import app
from tests.stacks.synthesized import Assembly

Acknowledged = dict[tuple[str, str], str]


def acknowledged(assembly: Assembly) -> Acknowledged:
    """Reasons of this repository's acknowledgements, by construct path and rule."""
    found: Acknowledged = {}
    for file in assembly.folder.glob("*.metadata.json"):
        for path, entries in json.loads(file.read_text()).items():
            for entry in entries:
                if entry["type"] == "aws:cdk:acknowledged-rules":
                    for rule, reason in entry["data"].items():
                        found[path.strip("/"), rule.partition("::")[2]] = reason
    # The library's own, for zones given by name.
    return {key: reason for key, reason in found.items() if key[1] != "W3010"}


def test_every_acknowledgement_stands_on_a_resource_and_says_why(any_environment: Assembly) -> None:
    entries = acknowledged(any_environment)

    assert entries
    for (path, rule), reason in entries.items():
        assert "/" in path, f"{rule} is acknowledged for the whole of {path}"
        assert len(reason) >= 40, f"{path}: {rule}: {reason!r}"


@pytest.mark.parametrize("environment", ["dev", "staging"])  # staging builds its images by CodeBuild
def test_without_its_acknowledgements_synthesis_fails_with_exactly_their_findings(
    environment: str, synthesize: Callable[[str], Assembly], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = acknowledged(synthesize(environment)).keys()
    monkeypatch.setattr(cdk.Validations, "acknowledge", lambda *_: None)

    with pytest.raises(RuntimeError, match=r"[Vv]alidation"):
        app.build(environment, str(tmp_path)).synth()

    report = json.loads((tmp_path / "validation-report.json").read_text())
    findings = {
        (construct["constructPath"], violation["ruleName"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }
    stale = {
        (path, rule)
        for path, rule in entries
        if not any(f"{found}/".startswith(f"{path}/") and name == rule for found, name in findings)
    }
    uncovered = {
        (found, name)
        for found, name in findings
        if not any(f"{found}/".startswith(f"{path}/") and name == rule for path, rule in entries)
    }
    assert (stale, uncovered) == (set(), set())
