"""Runs on SageMaker: the real trainer in raw training jobs, in the shape that the control plane creates them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP, parse_data_key, parse_manifest_key
from spotkeeper.contract.ledger import RUN_SORT_KEY, run_partition
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.control.aws.mirrors import S3Mirrors
from spotkeeper.trainer.manifest import unseal
from tests.emulation.compute import eventually
from tests.emulation.training import IMAGE, ROLE, TYPE, Training, training
from tests.trainer.conftest import INTERPRETER

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.trainer.ddp_training"]
RUN = "digits-7fq2"
JOB = f"dev-{RUN}-1"
TABLE = "ledger"


class Story:
    """One run with a ledger, and its first training job."""

    def __init__(self, cloud: Training) -> None:
        self.cloud = cloud
        self._dynamodb: Any = cloud.session.client("dynamodb", endpoint_url=cloud.endpoint_url)
        self._dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        self._dynamodb.put_item(
            TableName=TABLE,
            Item={
                "pk": {"S": run_partition(RUN)},
                "sk": {"S": RUN_SORT_KEY},
                "state": {"S": "submitted"},
                "market": {"S": "spot"},
                **{name: {"N": "1"} for name in ("submission", "version")},
                "epoch": {"N": "0"},
            },
        )

    def item(self) -> dict[str, Any]:
        key = {"pk": {"S": run_partition(RUN)}, "sk": {"S": RUN_SORT_KEY}}
        return dict(self._dynamodb.get_item(TableName=TABLE, Key=key)["Item"])

    def create(self, *, nodes: int = 1, environment: dict[str, str] | None = None, **request: Any) -> None:
        self.cloud.sagemaker.create_training_job(
            **{
                "TrainingJobName": JOB,
                "RoleArn": ROLE,
                "AlgorithmSpecification": {
                    "TrainingImage": IMAGE,
                    "TrainingInputMode": "File",
                    "ContainerEntrypoint": ["spotkeeper-exec"],
                    "ContainerArguments": ["--", *PROGRAM],
                },
                "OutputDataConfig": {"S3OutputPath": "s3://bucket/output/"},
                "ResourceConfig": {"InstanceType": TYPE, "InstanceCount": nodes, "VolumeSizeInGB": 30},
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 36_000, "MaxWaitTimeInSeconds": 72_000},
                "Environment": {
                    "SPOTKEEPER_ENV": "dev",
                    "SPOTKEEPER_LEDGER_TABLE": TABLE,
                    "SPOTKEEPER_URI": "s3://bucket",
                    "SPOTKEEPER_RUN_ID": RUN,
                    "SPOTKEEPER_SUBMISSION": "1",
                    "SPOTKEEPER_PROGRESS_SECONDS": "0.1",
                    **OF_THE_PROGRAM,
                    "STEP_SECONDS": "0.3",
                    **(environment or {}),
                },
                "Tags": [{"Key": "spotkeeper:run", "Value": RUN}],
                **request,
            }
        )

    def lines(self, node: int = 1) -> list[dict[str, Any]]:
        if not self.cloud.service.periods(JOB):
            return []
        parsed = [parse_line(line) for line in self.cloud.service.output(JOB, node=node).splitlines()]
        return [line for line in parsed if line is not None]

    def reaches(self, step: int, *, epoch: int, event: str = "progress") -> None:
        """Wait until the attempt of the epoch says so."""
        eventually(
            lambda: [
                line
                for line in self.lines()
                if line["event"] == event and line["epoch"] == epoch and line.get("step", -1) >= step
            ],
            timeout_seconds=150,
        )

    def reclaim(self, *, notice: bool, node: int = 1) -> None:
        self.cloud.market.reclaim(self.cloud.service.instances(JOB)[node - 1].id, notice=notice)

    def final_state(self) -> list[Any]:
        return final_state(self.cloud.keys(f"commit/{RUN}/"), RUN, self._get)

    def _get(self, key: str) -> bytes:
        return bytes(self.cloud.s3.get_object(Bucket="bucket", Key=key)["Body"].read())


OF_THE_PROGRAM = {
    "PYTHONPATH": f"{REPOSITORY}:{INTERPRETER}",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "SAVE_AT": "2,6,10",
}


def final_state(manifests: list[str], run_id: str, get: Any) -> list[Any]:
    """Return the state after the last step: all tensors' bytes, and what is none."""
    manifest = unseal(get(max(manifests)), max(manifests), run_id)
    tensors = [get(stored["key"]) for stored in manifest["objects"]]
    return [manifest["step"], tensors, manifest["state"], manifest.get("rank_states")]


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The final state of one process that nobody interrupted."""
    return left_in_peace(tmp_path_factory.mktemp("peace") / "checkpoints", PROGRAM)


def left_in_peace(folder: Path, command: Sequence[str]) -> list[Any]:
    """Train without interruption on this machine; return the final state."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= OF_THE_PROGRAM | {
        "SPOTKEEPER_URI": str(folder),
        "SPOTKEEPER_RUN_ID": RUN,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
    }
    subprocess.run(command, env=environ, cwd=folder.parent, check=True, capture_output=True)
    manifests = [path.relative_to(folder).as_posix() for path in folder.glob(f"commit/{RUN}/*")]
    return final_state(manifests, RUN, lambda key: (folder / key).read_bytes())


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Training]:
    with training(tmp_path / "jobs", speed=300) as cloud:
        yield cloud


@pytest.fixture
def story(cloud: Training) -> Story:
    return Story(cloud)


def test_a_run_that_is_interrupted_twice_ends_as_one_that_was_left_in_peace(story: Story, peaceful: list[Any]) -> None:
    story.create()
    story.reaches(4, epoch=1)
    story.reclaim(notice=True)  # SageMaker happens to pass it on as SIGTERM
    story.reaches(5, epoch=2, event="committed")
    story.reclaim(notice=False)  # and here it does not
    done = story.cloud.ended(JOB)

    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Completed", "Completed")
    assert [each["Status"] for each in done["SecondaryStatusTransitions"]].count("Interrupted") == 2
    item = story.item()
    assert (item["epoch"]["N"], item["claimed_attempt"]["N"]) == ("3", "3")
    assert item["job_id"]["S"] == done["TrainingJobArn"]
    assert (item["completion"]["M"]["epoch"]["N"], item["completion"]["M"]["step"]["N"]) == ("3", "16")
    assert "signal" in [line.get("cause") for line in story.lines()]
    assert story.final_state() == peaceful


def test_without_capacity_the_job_ends_with_its_wait_and_the_run_was_never_claimed(story: Story) -> None:
    story.cloud.market.dry()
    story.create(StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120})
    done = story.cloud.ended(JOB)

    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert "claimed_job_id" not in story.item()
    assert story.cloud.market.instances == ()


def test_of_two_nodes_one_is_lost_and_both_resume_where_both_had_saved(story: Story, tmp_path: Path) -> None:
    story.create(nodes=2)
    story.reaches(1, epoch=1, event="committed")
    story.reclaim(notice=False, node=2)
    done = story.cloud.ended(JOB)

    assert done["TrainingJobStatus"] == "Completed", story.cloud.service.output(JOB)
    assert story.item()["completion"]["M"]["epoch"]["N"] == "2"
    assert story.item()["claimed_attempt"]["N"] == "2"
    resumed = [line for line in story.lines() if line["event"] == "resumed"]
    assert [line["step"] >= 2 for line in resumed] == [True], story.cloud.service.output(JOB)
    both = [*PROGRAM[:2], "torch.distributed.run", "--nproc-per-node=2", "-m", PROGRAM[2]]
    assert story.final_state() == left_in_peace(tmp_path / "peace", both)


def test_of_two_nodes_one_is_told_and_neither_ends_the_job_by_leaving(story: Story) -> None:
    story.create(nodes=2)
    story.reaches(3, epoch=1)
    story.reclaim(notice=True, node=2)
    done = story.cloud.ended(JOB)

    assert done["TrainingJobStatus"] == "Completed", done.get("FailureReason")
    assert [each["Status"] for each in done["SecondaryStatusTransitions"]].count("Interrupted") == 1
    assert "signal" in [line.get("cause") for line in story.lines()]


ISOLATED = {
    "SPOTKEEPER_URI": "/opt/ml/checkpoints",
    "SPOTKEEPER_RUN_ID": RUN,
    "SPOTKEEPER_PROGRESS_SECONDS": "0.1",
    **OF_THE_PROGRAM,
}
"""The whole environment of a container without network, as far as this program needs it: no ledger, no S3."""
CHECKPOINTS = {"S3Uri": f"s3://bucket/mirror/{RUN}/", "LocalPath": "/opt/ml/checkpoints"}


def test_a_run_whose_mirror_stops_resumes_from_what_had_arrived_and_not_from_what_it_had_saved(story: Story) -> None:
    own = ISOLATED | {"SAVE_AT": "1,5,9", "STEP_SECONDS": "0.7"}
    story.create(Environment=own, CheckpointConfig=CHECKPOINTS, EnableNetworkIsolation=True)
    eventually(lambda: whole_in_s3(story.cloud), timeout_seconds=150)
    story.cloud.service.stop_mirrors()
    story.reaches(max(whole_in_s3(story.cloud)) + 1, epoch=1, event="committed")
    arrived = whole_in_s3(story.cloud)
    story.reclaim(notice=False)
    eventually(lambda: len(story.cloud.service.periods(JOB)) == 2)  # the first is over, with its mirror
    story.cloud.service.resume_mirrors()
    done = story.cloud.ended(JOB)

    assert done["TrainingJobStatus"] == "Completed", story.cloud.service.output(JOB)
    (resumed,) = [line for line in story.lines() if line["event"] == "resumed"]
    assert (resumed["epoch"], resumed["step"]) == (2, max(arrived))
    committed = [line["step"] for line in story.lines() if line["event"] == "committed" and line["epoch"] == 1]
    assert max(arrived) < max(committed)
    assert max(mirrored_manifests(story.cloud)) == f"commit/{RUN}/000002-000000000016.json"


def mirrored_manifests(cloud: Training) -> list[str]:
    """Return the keys of manifests within the mirror; a file that was copied under its name of before is none."""
    keys = (key.removeprefix(f"mirror/{RUN}/") for key in cloud.keys(f"mirror/{RUN}/commit/"))
    return [key for key in keys if parse_manifest_key(key) is not None]


def whole_in_s3(cloud: Training) -> list[int]:
    """Return the steps of the checkpoints that have arrived with all that they consist of."""
    there, steps = cloud.keys(f"mirror/{RUN}/"), []
    for key in mirrored_manifests(cloud):
        manifest = json.loads(cloud.s3.get_object(Bucket="bucket", Key=f"mirror/{RUN}/{key}")["Body"].read())
        if all(f"mirror/{RUN}/{stored['key']}" in there for stored in manifest["objects"]):
            steps.append(manifest["step"])
    return steps


def test_an_isolated_run_goes_on_from_its_mirror_without_a_word_to_aws(story: Story, peaceful: list[Any]) -> None:
    own = ISOLATED | {"STEP_SECONDS": "0.3"}
    story.create(Environment=own, CheckpointConfig=CHECKPOINTS, EnableNetworkIsolation=True)
    eventually(lambda: whole_in_s3(story.cloud), timeout_seconds=150)
    story.reclaim(notice=False)
    done = story.cloud.ended(JOB)

    assert done["TrainingJobStatus"] == "Completed", story.cloud.service.output(JOB)
    assert [line["event"] for line in story.lines()].count("resumed") == 1
    assert "claimed_job_id" not in story.item()

    assert mirrored_state(story.cloud) == peaceful


def test_a_job_after_which_old_checkpoints_went_is_followed_by_one_that_ends_the_same(
    story: Story, peaceful: list[Any]
) -> None:
    own = ISOLATED | {"SAVE_AT": "1,2,3,4", "STEP_SECONDS": "0.3"}
    isolated: dict[str, Any] = {"CheckpointConfig": CHECKPOINTS, "EnableNetworkIsolation": True}
    story.create(Environment=own, **isolated)
    eventually(lambda: len(whole_in_s3(story.cloud)) >= 3, timeout_seconds=150)
    story.cloud.sagemaker.stop_training_job(TrainingJobName=JOB)
    story.cloud.ended(JOB)
    arrived = sorted(whole_in_s3(story.cloud))

    mirrors = S3Mirrors(story.cloud.s3, "s3://bucket")
    for page in mirrors.outlived(RUN, keep=DEFAULT_KEEP):
        assert mirrors.delete(RUN, page) == {}
    assert sorted(whole_in_s3(story.cloud)) == arrived[-DEFAULT_KEEP:]
    data = (key.removeprefix(f"mirror/{RUN}/") for key in story.cloud.keys(f"mirror/{RUN}/data/"))
    positions = {parse_data_key(key) for key in data}
    assert positions == {(1, step) for step in arrived[-DEFAULT_KEEP:]}
    story.create(TrainingJobName=f"dev-{RUN}-2", Environment=own, **isolated)
    done = story.cloud.ended(f"dev-{RUN}-2")

    output = story.cloud.service.output(f"dev-{RUN}-2")
    assert done["TrainingJobStatus"] == "Completed", output
    (resumed,) = [line for line in map(parse_line, output.splitlines()) if line and line["event"] == "resumed"]
    assert resumed["step"] == arrived[-1]
    assert mirrored_state(story.cloud) == peaceful


def mirrored_state(cloud: Training) -> list[Any]:
    """Return the final state that the mirror has brought."""

    def mirrored(key: str) -> bytes:
        found = cloud.s3.get_object(Bucket="bucket", Key=f"mirror/{RUN}/{key}")
        return bytes(found["Body"].read())

    return final_state(mirrored_manifests(cloud), RUN, mirrored)
