"""A sweep that loses a fifth of its members: they go on, each by itself, and nobody else is touched."""

from collections import Counter
from pathlib import Path

import pytest

from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import array_job_name, member_id
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from spotkeeper.ops import sweep_status
from tests.story.user import User, eventually, later

SWEEP = "lr"
SEEDS = range(50)
LOST = SEEDS[40:]
"""The last to get a machine, so that they have it for a few seconds only when the others are done."""

ENDED = {"SUCCEEDED", "FAILED"}
PYTHON = ("python", "-I", "-S", "-c")

# Two steps, each committed as the library does as far as the control plane can see; between them a member stays for as
# long as its file is in HELD. It starts quickly: no library, no site, no source to fetch.
PROGRAM = """
import json, os, pathlib, time, urllib.request
run, epoch, seed = (os.environ[name] for name in ("SPOTKEEPER_RUN_ID", "SPOTKEEPER_EPOCH", "SEED"))
bucket = os.environ["AWS_ENDPOINT_URL"] + "/" + os.environ["SPOTKEEPER_URI"].removeprefix("s3://")
listed = urllib.request.urlopen(f"{bucket}?list-type=2&prefix=commit/{run}/").read().decode()
for step in range(listed.count("<Key>") + 1, 3):
    key = f"{bucket}/commit/{run}/{int(epoch):06}-{step:012}.json"
    body = json.dumps({"step": step, "epoch": int(epoch), "seed": seed}).encode()
    headers = {"If-None-Match": "*", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(key, body, headers, method="PUT"))
    while step == 1 and pathlib.Path(HELD, seed).exists():
        time.sleep(0.1)
"""


@pytest.fixture
def speed() -> float:
    """Faster than elsewhere: a queue gives up on its head after ten minutes, one job after the other."""
    return 600


@pytest.fixture
def entrypoint() -> tuple[str, ...]:
    """None, as of the trainer image: `spotkeeper-exec` itself is started."""
    return ()


def committed(user: User, run_id: str) -> dict[str, str]:
    """Return the keys of the run's checkpoints with what is in them."""
    bucket, s3 = user.connection.descriptor.checkpoint_bucket, user.connection.s3
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"commit/{run_id}/").get("Contents", [])
    keys = [found["Key"] for found in listed]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys}


def members(user: User) -> tuple[Run, ...]:
    return sweep_status.sweep_of(SWEEP, user.connection)[1]


def states(user: User) -> Counter[RunState]:
    found = members(user)
    failed = [f"{member.run_id}: {member.reason}" for member in found if member.state is RunState.FAILED]
    assert failed == []
    return Counter(member.state for member in found)


def test_a_sweep_of_50_that_loses_a_fifth_requeues_those_alone_with_their_own_parameters_and_checkpoints(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    for seed in LOST:
        (held / str(seed)).touch()

    program = PROGRAM.replace("HELD", repr(str(held)))
    seeds = f"SEED={','.join(map(str, SEEDS))}"
    # The longest attempt that the environment allows is 36 s at this speed.
    user.types("sweep", "submit", SWEEP, "--param", seeds, "--time-limit", "6h", "--", *PYTHON, program)
    queue = user.connection.descriptor.profiles["cpu"].spot_queue
    (parent,) = user.connection.batch.find(array_job_name(SWEEP), queue=queue)
    children = [f"{parent.job_id}:{index}" for index in SEEDS]
    lost = [member_id(SWEEP, index) for index in LOST]
    for index in sorted(set(SEEDS) - set(LOST)):
        assert cloud.batch.wait(children[index], ENDED, 100)["status"] == "SUCCEEDED"
    eventually(lambda: all(committed(user, run_id) for run_id in lost), bool)

    # Their hosts go, nothing replaces them, and the queue gives up on each: Batch will not try these again.
    cloud.market.dry()
    for index in LOST:
        cloud.market.reclaim(cloud.batch.attempts(children[index])[0].instance.id, notice=False)
    for index in LOST:
        assert cloud.batch.wait(children[index], ENDED, 150)["status"] == "FAILED"
    eventually(lambda: states(user), lambda found: found[RunState.WAITING] == len(LOST))
    for file in held.iterdir():
        file.unlink()
    cloud.market.restore()
    # The product's waits are real time, whatever the emulation's speed.
    user.sweep(at=later(3600))
    for run in members(user)[LOST.start :]:
        assert run.job_id is not None
        assert cloud.batch.wait(run.job_id, ENDED, 150)["status"] == "SUCCEEDED"
    eventually(lambda: states(user), lambda found: found[RunState.SUCCEEDED] == len(SEEDS))

    assert f"50 members: {len(SEEDS)} succeeded" in user.types("sweep", "status", SWEEP)
    found = members(user)
    assert [(run.submission, run.epoch) for run in found] == [(2, 2) if seed in LOST else (1, 1) for seed in SEEDS]
    for seed, run in zip(SEEDS, found, strict=True):
        epochs = (1, 2) if seed in LOST else (1, 1)
        assert committed(user, run.run_id) == {
            f"commit/{run.run_id}/{epoch:06}-{step:012}.json": f'{{"step": {step}, "epoch": {epoch}, "seed": "{seed}"}}'
            for step, epoch in enumerate(epochs, start=1)
        }
        causes = [attempt.cause for attempt in user.attempts(run)]
        assert causes == [*([Cause.HOST_LOST] if seed in LOST else []), Cause.COMPLETED]
    listed = user.connection.batch_client.list_jobs(
        jobQueue=queue, filters=[{"name": "AFTER_CREATED_AT", "values": ["0"]}]
    )
    jobs = sorted(job["jobName"] for job in listed["jobSummaryList"])
    assert jobs == [*(f"{run_id}-2" for run_id in lost), array_job_name(SWEEP)]
