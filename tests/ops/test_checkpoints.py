"""`spotkeeper checkpoints` against a versioned bucket in moto."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from spotkeeper.contract.checkpoint_layout import data_key, manifest_key
from spotkeeper.contract.ledger import RunState
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from tests.control.fakes import new_run
from tests.ops.deployed_environment import BUCKET


@pytest.fixture
def saved(environment: Connection) -> Connection:
    """A run that is paused, with checkpoints of two fencing epochs."""
    environment.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    environment.ledger.create(new_run("train", state=RunState.PAUSED, committed_step=30))
    for epoch, step in ((1, 10), (1, 20), (2, 15), (2, 30)):
        commit(environment, epoch, step)
    return environment


def commit(environment: Connection, epoch: int, step: int) -> None:
    data = data_key("train", epoch, step, "nonce", 0)
    written = environment.s3.put_object(Bucket=BUCKET, Key=data, Body=b"tensors")
    named = {"objects": [{"key": data, "version_id": written["VersionId"]}]}
    environment.s3.put_object(Bucket=BUCKET, Key=manifest_key("train", epoch, step), Body=json.dumps(named).encode())


def types(*words: str) -> Any:
    result = CliRunner().invoke(app, ["checkpoints", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def there(environment: Connection) -> list[str]:
    return [found["Key"] for found in environment.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def positions(*, removed: bool) -> list[tuple[int, int]]:
    told = json.loads(types("list", "train", "--json").stdout)
    return [(one["epoch"], one["step"]) for one in told if (one["removed_at"] is not None) is removed]


def test_they_are_listed_newest_first_and_the_one_that_resumes_is_marked(saved: Connection) -> None:  # noqa: ARG001
    lines = types("list", "train").stdout.splitlines()

    assert [line.split()[:2] for line in lines[1:]] == [["30", "2"], ["15", "2"], ["20", "1"], ["10", "1"]]
    assert [line.split()[-1] for line in lines[1:]] == ["resumes", "there", "there", "there"]


def test_those_of_a_run_without_network_are_said_to_be_elsewhere(environment: Connection) -> None:
    environment.ledger.create(new_run("alone", state=RunState.PAUSED, is_isolated=True))

    result = types("list", "alone")

    assert result.exit_code != 0
    assert f"s3://{BUCKET}/mirror/alone/" in result.stderr


def test_a_rollback_hides_what_is_newer_by_fencing_epoch_and_step_and_counts_progress_anew(saved: Connection) -> None:
    result = types("roll-back", "train", "--step", "20")

    assert result.stdout.endswith("train resumes at step 20\n")
    assert positions(removed=False) == [(1, 20), (1, 10)]
    assert positions(removed=True) == [(2, 30), (2, 15)]
    assert saved.run_of("train").committed_step == 20
    assert data_key("train", 2, 30, "nonce", 0) in there(saved), "so that it can be undone"


def test_what_was_rolled_back_and_let_go_since_is_restored_with_its_data(saved: Connection) -> None:
    types("roll-back", "train", "--step", "20")
    saved.s3.delete_object(Bucket=BUCKET, Key=data_key("train", 2, 30, "nonce", 0))  # as the next attempt does

    result = types("restore", "train", "--step", "30")

    assert result.exit_code == 0, result.stderr
    assert {manifest_key("train", 2, 30), data_key("train", 2, 30, "nonce", 0)} <= set(there(saved))
    assert positions(removed=False)[0] == (2, 30)
    assert positions(removed=True) == [(2, 15)]


def test_one_whose_data_has_expired_is_not_restored(saved: Connection) -> None:
    types("roll-back", "train", "--step", "20")
    key = data_key("train", 2, 30, "nonce", 0)
    version = saved.s3.head_object(Bucket=BUCKET, Key=key)["VersionId"]
    saved.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version)

    result = types("restore", "train", "--step", "30")

    assert result.exit_code == 1
    assert "has expired" in result.stderr
    assert positions(removed=False)[0] == (1, 20)


def test_one_whose_data_was_overwritten_is_not_restored(saved: Connection) -> None:
    types("roll-back", "train", "--step", "20")
    saved.s3.put_object(Bucket=BUCKET, Key=data_key("train", 2, 30, "nonce", 0), Body=b"other")

    result = types("restore", "train", "--step", "30")

    assert "was overwritten since step 30" in result.stderr
    assert (2, 30) in positions(removed=True)


@pytest.mark.parametrize("words", [("roll-back", "train", "--step", "20"), ("restore", "train", "--step", "20")])
@pytest.mark.parametrize(
    ("state", "told"), [(RunState.WAITING, "an attempt may be writing"), (RunState.FAILED, "is not opened again")]
)
def test_a_run_that_may_be_written_or_has_ended_is_left_alone(
    environment: Connection, words: tuple[str, ...], state: RunState, told: str
) -> None:
    environment.ledger.create(new_run("train", state=state))

    result = types(*words)

    assert (result.exit_code, told in result.stderr) == (1, True), result.stderr


def test_a_step_that_is_not_there_is_refused_with_those_that_are(saved: Connection) -> None:
    result = types("roll-back", "train", "--step", "15", "--epoch", "1")

    assert "step 15 and fencing epoch 1 is not there; these could be chosen: 30, 15, 20, 10" in result.stderr
    assert len([key for key in there(saved) if key.startswith("commit/")]) == 4
