"""`spotkeeper checkpoints` against a versioned bucket in moto."""

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from spotkeeper.contract.checkpoint_layout import data_key, manifest_key, mirror_prefix
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
    assert [line.split()[-1] for line in lines[1:]] == ["resumes", "kept", "kept", "kept"]


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


class TestWithoutNetwork:
    """What is there is what SageMaker's mirror brought, in no order."""

    @pytest.fixture
    def mirrored(self, environment: Connection) -> Connection:
        """Of the newest checkpoint, the data did not arrive."""
        environment.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        environment.ledger.create(new_run("train", state=RunState.PAUSED, is_isolated=True, committed_step=20))
        for step in (10, 20, 30):
            data = data_key("train", 1, step, "nonce", 0)
            named = {
                "objects": [{"key": data, "bytes": 7, "version_id": None}],
                "created_at": "2026-11-27T10:00:00+00:00",
            }
            if step < 30:
                environment.s3.put_object(Bucket=BUCKET, Key=mirror_prefix("train") + data, Body=b"tensors")
            environment.s3.put_object(
                Bucket=BUCKET,
                Key=mirror_prefix("train") + manifest_key("train", 1, step),
                Body=json.dumps(named).encode(),
            )
        return environment

    def test_what_did_not_arrive_whole_is_not_what_resumes(self, mirrored: Connection) -> None:  # noqa: ARG002
        lines = types("list", "train").stdout.splitlines()

        assert [line.split()[0] for line in lines[1:]] == ["30", "20", "10"]
        assert [re.split(r"\s\s+", line.strip())[-1] for line in lines[1:]] == ["not whole", "resumes", "kept"]

    def test_a_rollback_hides_what_is_newer_in_the_mirror(self, mirrored: Connection) -> None:
        result = types("roll-back", "train", "--step", "10")

        assert result.exit_code == 0, result.stderr
        assert positions(removed=False) == [(1, 10)]
        assert mirror_prefix("train") + manifest_key("train", 1, 20) not in there(mirrored)
        assert mirror_prefix("train") + data_key("train", 1, 20, "nonce", 0) in there(mirrored)
        assert mirrored.run_of("train").committed_step == 10

    def test_what_did_not_arrive_whole_is_not_rolled_back_to(self, mirrored: Connection) -> None:
        before = there(mirrored)

        result = types("roll-back", "train", "--step", "30")

        assert result.exit_code == 1
        assert "step 30 and fencing epoch 1 did not arrive whole" in result.stderr
        assert there(mirrored) == before

    def test_what_was_let_go_between_two_jobs_is_restored_with_its_data(self, mirrored: Connection) -> None:
        lost = (manifest_key("train", 1, 10), data_key("train", 1, 10, "nonce", 0))
        keys = [mirror_prefix("train") + key for key in lost]
        for key in keys:
            mirrored.s3.delete_object(Bucket=BUCKET, Key=key)

        result = types("restore", "train", "--step", "10")

        assert result.exit_code == 0, result.stderr
        assert set(keys) <= set(there(mirrored))
