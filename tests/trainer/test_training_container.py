"""`spotkeeper-exec` under SageMaker's container contract, against a ledger on this machine."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from spotkeeper.contract.checkpoint_layout import completion_key
from spotkeeper.contract.exit_codes import (
    EXIT_COMPLETED,
    EXIT_FENCED,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_YIELDED,
)
from spotkeeper.contract.ledger import attempt_sort_key
from spotkeeper.trainer.node_claim import ClaimResult, NodeMissingError, ask_node, tell_nodes
from spotkeeper.trainer.training_container import TrainingContainer
from tests.trainer.conftest import REPOSITORY, closed_port
from tests.trainer.run_ledger import RunLedger
from tests.trainer.test_exec import EXEC, archive, python, run_exec, says

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/dev-tiny-1"


def base_folder(folder: Path, *, current: str = "algo-1", hosts: tuple[str, ...] = ("algo-1",)) -> Path:
    """Make a base folder as SageMaker does."""
    config = folder / "input" / "config"
    config.mkdir(parents=True)
    told = {"current_host": current, "hosts": list(hosts), "current_instance_type": "ml.g5.xlarge"}
    (config / "resourceconfig.json").write_text(json.dumps(told))
    return folder


def sagemaker(environ: dict[str, str], base: Path, **variables: str) -> dict[str, str]:
    """Return the environment without Batch's variables, but with SageMaker's."""
    own = {name: value for name, value in environ.items() if not name.startswith("AWS_BATCH")}
    return {
        **own,
        "TRAINING_JOB_ARN": ARN,
        "TRAINING_JOB_NAME": "dev-tiny-1",
        "SAGEMAKER_BASE_DIR": str(base),
        **variables,
    }


def test_an_attempt_is_the_training_jobs_first_and_says_on_what_it_runs(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    done = run_exec(["true"], sagemaker(environ, base_folder(tmp_path / "ml")))

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["claimed", "completed"]), done.output
    assert ledger.item()["job_id"]["S"] == ARN
    assert ledger.item(attempt_sort_key(1, 1))["instance_type"]["S"] == "ml.g5.xlarge"


def test_the_same_job_after_an_interruption_is_its_next_attempt_with_a_newer_epoch(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    ledger.change(state="running", job_id=ARN, claimed_job_id=ARN, claimed_attempt=2, epoch=5)

    done = run_exec(python("pass"), sagemaker(environ, base_folder(tmp_path / "ml")))

    assert done.code == EXIT_COMPLETED, done.output
    assert (done.lines[0]["attempt"], done.lines[0]["epoch"]) == (3, 6)
    assert ledger.item(attempt_sort_key(1, 3))["epoch"]["N"] == "6"


def test_the_next_job_of_a_run_counts_from_one(environ: dict[str, str], ledger: RunLedger, tmp_path: Path) -> None:
    ledger.change(claimed_job_id=ARN.replace("tiny-1", "tiny-0"), claimed_attempt=4, epoch=4)

    done = run_exec(["true"], sagemaker(environ, base_folder(tmp_path / "ml")))

    assert (done.lines[0]["attempt"], done.lines[0]["epoch"]) == (1, 5)


def test_a_job_that_is_not_the_runs_is_fenced(environ: dict[str, str], ledger: RunLedger, tmp_path: Path) -> None:
    ledger.change(job_id=ARN.replace("tiny-1", "tiny-2"))

    done = run_exec(["true"], sagemaker(environ, base_folder(tmp_path / "ml")))

    assert (done.code, done.events()) == (EXIT_FENCED, ["fenced"])


@pytest.mark.parametrize("config", [None, "[]", '{"hosts": ["algo-1"], "current_host": "algo-2"}'])
def test_a_resource_config_that_does_not_name_the_node_is_refused(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path, config: str | None
) -> None:
    base = base_folder(tmp_path / "ml")
    path = base / "input" / "config" / "resourceconfig.json"
    path.write_text(config) if config else path.unlink()

    done = run_exec(["true"], sagemaker(environ, base))

    assert done.code == EXIT_REFUSED
    assert "does not name this node and all nodes" in done.output
    assert ledger.item()["epoch"]["N"] == "0"


def test_a_channel_is_data_under_the_name_that_it_has_on_batch(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "ml")
    (base / "input" / "data" / "train-set").mkdir(parents=True)
    container = TrainingContainer.read({"TRAINING_JOB_ARN": ARN, "SAGEMAKER_BASE_DIR": str(base)})

    assert container is not None
    assert container.variables({}) == {"SPOTKEEPER_DATA_TRAIN_SET": str(base / "input" / "data" / "train-set")}
    assert container.path("/opt/ml/checkpoints") == str(base / "checkpoints")
    assert container.path("s3://bucket") == "s3://bucket"


def test_outside_of_sagemaker_there_is_no_training_container() -> None:
    assert TrainingContainer.read({"AWS_BATCH_JOB_ID": "1"}) is None


def test_nodes_are_told_where_to_meet_whatever_order_their_names_come_in(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "ml", current="algo-2", hosts=("algo-2", "algo-1"))
    container = TrainingContainer.read({"TRAINING_JOB_ARN": ARN, "SAGEMAKER_BASE_DIR": str(base)})

    assert container is not None
    told = container.variables({"MASTER_PORT": "1234"})
    assert (told["MASTER_ADDR"], told["RANK"], told["NODE_RANK"], told["WORLD_SIZE"]) == ("algo-1", "1", "1", "2")
    assert (told["PET_NNODES"], told["PET_MASTER_ADDR"], told["PET_MASTER_PORT"]) == ("2", "algo-1", "1234")
    assert "MASTER_PORT" not in told  # what is set stays


def test_of_two_nodes_one_claims_and_both_have_its_epoch(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    done = run_two_nodes(environ, tmp_path / "ml")

    assert [code for code, _ in done] == [EXIT_COMPLETED, EXIT_COMPLETED], done
    (_, first), (_, second) = done
    assert "node 0 epoch 1" in first
    assert "node 1 epoch 1" in second
    assert ledger.item()["epoch"]["N"] == "1"
    assert "claimed" not in second


def test_of_two_nodes_that_are_started_again_for_a_run_that_is_complete_neither_waits_for_the_other(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    run_two_nodes(environ, tmp_path / "first")
    again = run_two_nodes(environ, tmp_path / "again")

    assert [code for code, _ in again] == [EXIT_COMPLETED, EXIT_COMPLETED], again
    for _, output in again:
        assert "the run is complete already" in output
        assert "node" not in output
    assert ledger.item()["epoch"]["N"] == "1"


def run_two_nodes(environ: dict[str, str], folder: Path) -> list[tuple[int, str]]:
    """Run a program that tells its node and epoch; return each node's exit code and output."""
    hosts, port = ("127.0.0.1", "127.0.0.2"), str(closed_port())
    program = python("import os; print('node', os.environ['NODE_RANK'], 'epoch', os.environ['SPOTKEEPER_EPOCH'])")
    nodes = [
        subprocess.Popen(
            [*EXEC, *program],
            env=sagemaker(
                environ,
                base_folder(folder / host, current=host, hosts=hosts),
                MASTER_PORT=port,
                SPOTKEEPER_URI="s3://bucket",
            ),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for host in hosts
    ]
    try:
        outputs = [node.communicate(timeout=200)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    return [(node.returncode, output) for node, output in zip(nodes, outputs, strict=True)]


def test_a_node_that_does_not_come_is_named() -> None:
    port = closed_port()
    with pytest.raises(NodeMissingError, match="1 of 1 other nodes"):
        tell_nodes(ClaimResult(), host="127.0.0.1", port=port, others=1, patience_seconds=0.1)
    with pytest.raises(NodeMissingError, match="did not tell its claim"):
        ask_node(name="algo-2", host="127.0.0.1", port=port, patience_seconds=0.1)


def test_sigterm_before_the_program_runs_does_not_end_the_job(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    ledger.change(submission=2)
    waits_for_the_run = sagemaker(environ, base_folder(tmp_path / "ml", hosts=("algo-1",)), SPOTKEEPER_SUBMISSION="2")
    ledger.client.delete_item(TableName=ledger.table, Key={"pk": {"S": "RUN#tiny"}, "sk": {"S": "RUN"}})
    with subprocess.Popen(
        [*EXEC, "true"], env=waits_for_the_run, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        wait_until_it_catches(process.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        ledger.put(state="submitted", submission=2, epoch=0, version=1)
        output = process.communicate(timeout=200)[0]

    assert process.returncode == EXIT_COMPLETED, output


def wait_until_it_catches(pid: int, number: signal.Signals) -> None:
    """Return once the process has a handler of its own for the signal."""
    give_up = time.monotonic() + 30
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        if int(caught, 16) & (1 << (number - 1)):
            return
        assert time.monotonic() < give_up
        os.sched_yield()


@pytest.mark.parametrize(
    ("variable", "value"), [("SPOTKEEPER_URI", "/opt/ml/checkpoints"), ("SPOTKEEPER_CHECKPOINT_FOLDER", "out")]
)
def test_several_nodes_are_refused_a_folder_before_the_run_is_claimed_and_sagemaker_tells_why(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path, variable: str, value: str
) -> None:
    base = base_folder(tmp_path / "ml", hosts=("algo-1", "algo-2"))
    (base / "output").mkdir()

    done = run_exec(["true"], sagemaker(environ, base, **{variable: value}))

    assert done.code == EXIT_REFUSED
    assert "the training job has 2 nodes" in (base / "output" / "failure").read_text()
    assert ledger.item()["epoch"]["N"] == "0"


def isolated(environ: dict[str, str], base: Path, **variables: str) -> dict[str, str]:
    """Return SageMaker's environment for a run without network: a folder that is mirrored, and no ledger."""
    own = sagemaker(environ, base, SPOTKEEPER_URI="/opt/ml/checkpoints", **variables)
    return {name: value for name, value in own.items() if name != "SPOTKEEPER_LEDGER_TABLE"}


def test_without_network_the_end_of_the_program_is_recorded_in_the_mirrored_folder(
    environ: dict[str, str], tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "ml")

    done = run_exec(python(says("completed", 16)), isolated(environ, base))

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["completed"]), done.output
    record = json.loads((base / "checkpoints" / completion_key("tiny")).read_text())
    assert (record["run_id"], record["step"]) == ("tiny", 16)
    assert datetime.fromisoformat(record["completed_at"]).tzinfo is not None


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(3)", 3), (says("started", 4), EXIT_INCOMPLETE)],
    ids=["it failed", "it ended before its last step"],
)
def test_what_has_not_finished_leaves_no_completion_record(
    environ: dict[str, str], tmp_path: Path, program: str, code: int
) -> None:
    base = base_folder(tmp_path / "ml")

    done = run_exec(python(program), isolated(environ, base))

    assert done.code == code, done.output
    assert not (base / "checkpoints" / completion_key("tiny")).exists()


def test_a_run_whose_completion_came_back_from_the_mirror_is_not_trained_again(
    environ: dict[str, str], tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "ml")
    run_exec(python("pass"), isolated(environ, base))

    done = run_exec(python("raise SystemExit(3)"), isolated(environ, base))

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["completed"]), done.output


COMMITS = """
from pathlib import Path
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.local_store import LocalStore
import os
checkpoints = Checkpoints(LocalStore(Path(os.environ["SPOTKEEPER_URI"])), run_id="tiny", keep=2, epoch=None)
for step in (12, 16):
    stored = checkpoints.write_data(step=step, chunks=[memoryview(b"weights")], total_bytes=7)
    checkpoints.commit(step=step, cause="periodic", stored=stored, state={})
"""


@pytest.mark.parametrize("lost", ["data/tiny/*-s000000000016-*/*", "commit/tiny/*-000000000016.json"])
def test_a_completion_that_came_back_without_its_last_checkpoint_is_trained_again(
    environ: dict[str, str], tmp_path: Path, lost: str
) -> None:
    """Files are mirrored in no order, and what was on its way goes with its host."""
    base = base_folder(tmp_path / "ml")
    assert run_exec(python(COMMITS + says("completed", 16)), isolated(environ, base)).code == EXIT_COMPLETED
    assert run_exec(python("raise SystemExit(3)"), isolated(environ, base)).code == EXIT_COMPLETED
    (gone,) = (base / "checkpoints").glob(lost)
    gone.unlink()

    done = run_exec(python("raise SystemExit(3)"), isolated(environ, base))

    assert done.code == 3, done.output
    assert done.events()[0] == "damaged"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"run_id": "other", "step": 1}', b"[]", b'{"run_id": "tiny", "step": 1, "manifest": "../x"}'],
)
def test_what_is_no_completion_record_of_the_run_does_not_keep_it_from_training(
    environ: dict[str, str], tmp_path: Path, content: bytes
) -> None:
    base = base_folder(tmp_path / "ml")
    path = base / "checkpoints" / completion_key("tiny")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert run_exec(python("raise SystemExit(3)"), isolated(environ, base)).code == 3


def test_the_source_is_taken_from_its_channel_and_must_be_what_was_submitted(
    environ: dict[str, str], tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "ml")
    channel = base / "input" / "data" / "spotkeeper-source"
    channel.mkdir(parents=True)
    content = archive({"train.py": "print('from the channel')"})
    (channel / "a.tar.gz").write_bytes(content)
    told = {
        "SPOTKEEPER_SOURCE_URI": "/opt/ml/input/data/spotkeeper-source/a.tar.gz",
        "SPOTKEEPER_SOURCE_SHA256": hashlib.sha256(content).hexdigest(),
    }

    done = run_exec([sys.executable, "train.py"], isolated(environ, base, **told))
    (channel / "a.tar.gz").unlink()
    gone = run_exec([sys.executable, "train.py"], isolated(environ, base_folder(tmp_path / "next"), **told))

    assert done.code == EXIT_COMPLETED, done.output
    assert "from the channel" in done.output
    assert gone.code == EXIT_REFUSED
    assert "is not there: submit again" in gone.output


def test_a_program_that_ends_when_told_leaves_it_to_sagemaker_to_end_the_container(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    program = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('here', flush=True)"
    command = [*EXEC, *python(f"{program}; signal.pause()")]
    with subprocess.Popen(
        command,
        env=sagemaker(environ, base_folder(tmp_path / "ml")),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        assert any(line == "here\n" for line in lines)
        process.send_signal(signal.SIGTERM)
        assert any("yielded" in line for line in lines)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == EXIT_YIELDED
    assert "completion" not in ledger.item()
