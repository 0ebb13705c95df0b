import json
from pathlib import Path

import pytest

from tests.security import acknowledgements
from tests.stacks.synthesized import Assembly


def test_every_acknowledgement_stands_on_a_resource_and_says_why(any_environment: Assembly) -> None:
    assert len(acknowledgements.acknowledgements(any_environment.folder)) > 10
    assert [str(found) for found in acknowledgements.judge(any_environment.folder)] == []


def test_no_acknowledgement_of_the_shipped_stacks_has_outlived_its_finding(any_environment: Assembly) -> None:
    assert acknowledgements.unneeded(any_environment.environment, any_environment.folder) == []


def planted(folder: Path, path: str, rule: str, reason: str) -> Path:
    """A copy of what is read of an assembly, with one acknowledgement in it."""
    folder.mkdir()
    entry = {"type": "aws:cdk:acknowledged-rules", "data": {f"Annotation::{rule}": reason}}
    (folder / "planted.metadata.json").write_text(json.dumps({path: [entry]}))
    return folder


REASON = "Somebody thought once that this was needed, and nobody looked again."


@pytest.mark.parametrize(
    ("path", "reason", "rule"),
    [
        ("/spotkeeper-dev-storage", REASON, "one_resource"),
        ("/spotkeeper-dev-storage/Removed", REASON, "existing_resource"),
        ("/spotkeeper-dev-storage/Ledger", "later", "reasoned"),
        ("/spotkeeper-dev-storage/Ledger", " " * 50, "reasoned"),
    ],
)
def test_a_careless_acknowledgement_is_found(path: str, reason: str, rule: str, dev: Assembly, tmp_path: Path) -> None:
    folder = planted(tmp_path / "dev", path, "AwsSolutions-DDB3", reason)
    (folder / "tree.json").write_text((dev.folder / "tree.json").read_text())

    assert [found.rule for found in acknowledgements.judge(folder)] == [rule]


def test_an_acknowledgement_of_what_is_not_there_is_found(tmp_path: Path) -> None:
    folder = planted(tmp_path / "dev", "/spotkeeper-dev-storage/Ledger", "AwsSolutions-DDB3", REASON)

    (found,) = acknowledgements.unneeded("dev", folder)

    assert (found.rule, found.where) == ("still_needed", "spotkeeper-dev-storage/Ledger")
