import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from emulation.aws import connect
from emulation.cloud import Cloud, Conditions
from emulation.ec2.traces import Sample, Trace
from emulation.local_endpoint import announce, only_one
from emulation.server import Server
from emulation.templates.assembly import Assembly
from emulation.work_dir import remove_abandoned
from spotkeeper.contract import ledger
from spotkeeper.contract.local_endpoint import local_endpoint_file
from spotkeeper.ops.invocation import local_spotkeeper, python

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "recorded_events"


def eventually(read: Callable[[], T], accept: Callable[[T], Any], seconds: float = 60) -> T:
    give_up = time.monotonic() + seconds
    while not accept(last := read()):
        assert time.monotonic() < give_up, f"after {seconds} s it is still {last!r}"
        time.sleep(0.02)  # between polls; the deadline is above
    return last


# The whole, in this process


def test_an_interruption_of_dev_is_recorded_in_the_ledger_by_the_shipped_function(tmp_path: Path) -> None:
    event = json.loads((RECORDED / "spot_interruption_warning.json").read_text())
    instance = event["detail"]["instance-id"]
    with Cloud("dev", work_dir=tmp_path) as cloud:
        aws = connect(cloud.endpoint_url, cloud.region)
        table = cloud.deployment.one("AWS::DynamoDB::Table").physical_id
        key = {
            ledger.PARTITION_KEY: {"S": ledger.instance_partition(instance)},
            ledger.SORT_KEY: {"S": ledger.INTERRUPTION_SORT_KEY},
        }

        cloud.router.publish({**event, "account": cloud.deployment.account})

        item = eventually(lambda: aws.dynamodb.get_item(TableName=table, Key=key).get("Item"), bool)
        assert item is not None
        assert item["instance_id"] == {"S": instance}
        assert cloud.failures == ()
        assert cloud.function_errors == ()


def test_a_job_runs_as_a_process_and_its_events_reach_the_rules(
    tmp_path: Path, sample: Callable[..., Assembly]
) -> None:
    with Cloud(work_dir=tmp_path / "work", assembly=sample(), conditions=Conditions(speed=600)) as cloud:
        batch = connect(cloud.endpoint_url, cloud.region).batch
        submitted = batch.submit_job(
            jobName="echo",
            jobQueue=next(iter(cloud.deployment.job_queues)),
            jobDefinition=next(iter(cloud.deployment.job_definitions)),
            shareIdentifier="research",
            containerOverrides={"command": ["sh", "-c", "echo hello; echo $LEDGER"]},
        )

        eventually(
            lambda: batch.describe_jobs(jobs=[submitted["jobId"]])["jobs"][0]["status"], lambda s: s == "SUCCEEDED"
        )
        eventually(
            lambda: [delivery.event["detail"]["status"] for delivery in cloud.router.delivered],
            lambda statuses: "SUCCEEDED" in statuses,
        )
        assert cloud.failures == ()


def test_a_trace_decides_when_there_is_capacity(tmp_path: Path, sample: Callable[..., Assembly]) -> None:
    dry = Trace(samples=(Sample(0, available=False),), seconds=3600)
    with Cloud(work_dir=tmp_path / "work", assembly=sample(), conditions=Conditions(trace=dry)) as cloud:
        assert cloud.market.launch(["m5.xlarge"], ["us-east-1b"], "spot") is None
        assert cloud.market.launch(["m5.xlarge"], ["us-east-1b"], "on-demand") is not None


def test_stopping_takes_about_a_second_ends_every_process_and_frees_the_port(
    tmp_path: Path, sample: Callable[..., Assembly]
) -> None:
    before = children(os.getpid())
    cloud = Cloud(work_dir=tmp_path / "work", assembly=sample(), conditions=Conditions(speed=600))
    batch = connect(cloud.endpoint_url, cloud.region).batch
    for host in cloud.functions.values():
        host.invoke({"Records": []})
    submitted = batch.submit_job(
        jobName="long",
        jobQueue=next(iter(cloud.deployment.job_queues)),
        jobDefinition=next(iter(cloud.deployment.job_definitions)),
        shareIdentifier="research",
        containerOverrides={"command": ["sleep", "600"]},
    )
    cloud.batch.wait(submitted["jobId"], {"RUNNING"}, 60)
    assert len(children(os.getpid()) - before) >= 3

    began = time.monotonic()
    cloud.stop()
    seconds = time.monotonic() - began

    assert children(os.getpid()) <= before
    assert seconds < 5  # 0.3 s on an idle machine
    cloud.stop()  # a second time does nothing
    Server(port=int(cloud.endpoint_url.rsplit(":", 1)[1])).stop()


def test_what_can_be_refused_is_refused_before_anything_is_synthesized(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="speed must be from 1"):
        Cloud("dev", work_dir=tmp_path / "speed", conditions=Conditions(speed=0.5))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="is in use"):
            Cloud("dev", work_dir=tmp_path / "port", port=taken.getsockname()[1])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(ValueError, match="full is not empty: give a new or an empty folder"):
        Cloud("dev", work_dir=tmp_path / "full")

    assert not any((tmp_path / name / "assembly").exists() for name in ("speed", "port", "full"))


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    before = children(os.getpid())
    with pytest.raises(ValueError, match="nowhere"):
        Cloud("nowhere", work_dir=tmp_path)

    assert children(os.getpid()) <= before
    Server().stop()


# `python -m emulation`


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}


class Up:
    """`python -m emulation` in a process of its own."""

    def __init__(self, environ: Mapping[str, str], *arguments: str, command: str = "up") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emulation", command, *arguments],
            cwd=REPOSITORY,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if text in line:
                return said
        assert self.process.stderr is not None
        raise AssertionError(f"ended before it said {text!r}: {said} {self.process.stderr.read()}")

    def end(self, number: int) -> str:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=100)
        return errors


@pytest.fixture
def up(environ: dict[str, str]) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, command: str = "up") -> Up:
        started.append(Up(environ, *arguments, command=command))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.communicate()


def children(pid: int) -> set[int]:
    """Return the processes that a process started, and those that they started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines() if "Z" not in line.split()[2]}
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return {child for child in found if b"\0ps\0" not in b"\0" + _command(child)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"ps\0"


def test_up_says_how_to_use_it_refuses_a_second_start_and_cleans_up_on_ctrl_c(
    up: Callable[..., Up], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    first = up("--speed", "60", "--verbose")
    said = first.read_until("Ctrl-C")
    file = local_endpoint_file(environ)
    endpoint = json.loads(file.read_text())

    assert endpoint["pid"] == first.process.pid
    assert endpoint["environment"] == "dev"
    assert f"dev is up at {endpoint['endpoint_url']} (us-east-1, 60 x real time, seed 0)" in said
    assert f"{local_spotkeeper()} status" in said
    assert "interrupts  none (--interruptions N --every SECONDS, or --trace FILE)" in said
    assert "adapted  Images2D38C313 (AWS::ECR::Repository)" in said
    aws = connect(endpoint["endpoint_url"], endpoint["region"])
    assert aws.ssm.get_parameter(Name="/spotkeeper/dev/descriptor")["Parameter"]["Value"]

    second = run(environ, "up")
    assert second.returncode == 1
    assert f"an emulation of dev is up already at {endpoint['endpoint_url']}" in second.stderr
    assert_one_line(second.stderr)

    errors = first.end(signal.SIGINT)
    assert first.process.returncode == 130
    assert f"Start a new one: {python()} -m emulation up --speed 60 --verbose" in errors
    assert not file.exists()
    assert list(tmp_path.glob("spotkeeper-emulation-*")) == []


def test_a_killed_emulation_leaves_no_process_and_does_not_block_the_next(
    up: Callable[..., Up], environ: dict[str, str], tmp_path: Path
) -> None:
    running = up("--speed", "600")
    running.read_until("Ctrl-C")
    endpoint = json.loads(local_endpoint_file(environ).read_text())
    aws = connect(endpoint["endpoint_url"], endpoint["region"])
    descriptor = json.loads(aws.ssm.get_parameter(Name="/spotkeeper/dev/descriptor")["Parameter"]["Value"])
    profile = descriptor["profiles"][descriptor["default_profile"]]
    submitted = aws.batch.submit_job(
        jobName="long",
        jobQueue=profile["spot_queue"],
        jobDefinition=profile["job_definition"],
        shareIdentifier=descriptor["teams"][0],
        containerOverrides={"command": ["sleep", "600"]},
    )
    # Running, and the function that observes jobs has a process too.
    eventually(
        lambda: aws.batch.describe_jobs(jobs=[submitted["jobId"]])["jobs"][0]["status"], lambda s: s == "RUNNING"
    )
    started = eventually(lambda: children(running.process.pid), lambda found: len(found) >= 4)

    running.end(signal.SIGKILL)

    eventually(lambda: {pid for pid in started if Path(f"/proc/{pid}").exists()}, lambda left: not left)
    assert local_endpoint_file(environ).exists()
    with only_one(environ):
        assert len(list(tmp_path.glob("spotkeeper-emulation-*"))) == 1
        remove_abandoned(tmp_path)
        assert list(tmp_path.glob("spotkeeper-emulation-*")) == []


def run(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulation", *arguments],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def assert_one_line(errors: str) -> None:
    assert errors.startswith("python -m emulation: ")
    assert errors.count("\n") == 1


def test_bad_input_is_answered_with_one_clear_line(environ: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time,available\n2026-01-01T00:00:00Z,perhaps\n")
    (tmp_path / "a-file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, told in (
            (["--env", "nowhere"], "nowhere"),
            (["--trace", str(trace)], f"{trace}, line 2"),
            (["--trace", str(tmp_path / "none.csv")], f"{tmp_path / 'none.csv'}: No such file or directory"),
            (["--port", port], f"port {port} is in use"),
            (["--speed", "0"], "speed must be from 1"),
            (["--interruptions", "-1"], "--interruptions must be 0 or more; got -1"),
            (["--interruptions", "1", "--every", "0"], "--every must be a number of seconds above 0; got 0"),
            (["--keep", str(tmp_path / "a-file")], f"{tmp_path / 'a-file'}: File exists"),
            (["--keep", str(tmp_path)], "is not empty"),
        ):
            refused = run(environ, "up", *arguments)

            assert refused.returncode == 1
            assert told in refused.stderr
            assert_one_line(refused.stderr)
            assert refused.stdout == "" or "--speed" not in arguments
    assert not local_endpoint_file(environ).exists()


@pytest.mark.parametrize("command", ["up", "demo"])
def test_an_option_that_there_is_not_is_answered_with_the_usage_of_its_command(
    environ: dict[str, str], command: str
) -> None:
    refused = run(environ, command, "--sed", "3")

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"usage: python -m emulation {command} [-h] [--seed N]")
    assert f"python -m emulation {command}: error: unrecognized arguments: --sed 3" in refused.stderr


def test_ctrl_c_while_it_starts_leaves_nothing_behind(
    up: Callable[..., Up], environ: dict[str, str], tmp_path: Path
) -> None:
    starting = up()
    starting.read_until("synthesizing and deploying dev")

    errors = starting.end(signal.SIGINT)

    assert starting.process.returncode == 130
    assert "nothing is left running" in errors
    assert "Traceback" not in errors
    assert not local_endpoint_file(environ).exists()
    assert list(tmp_path.glob("spotkeeper-emulation-*")) == []


def test_of_two_that_start_at_once_one_goes_on(up: Callable[..., Up]) -> None:
    both = [up(), up()]

    (loser,) = eventually(lambda: [one for one in both if one.process.poll() is not None], bool)

    (winner,) = (one for one in both if one is not loser)
    winner.read_until("synthesizing and deploying dev")
    _, errors = loser.process.communicate()
    assert loser.process.returncode == 1
    assert "an emulation is starting already (process " in errors
    assert_one_line(errors)
    winner.end(signal.SIGINT)


@pytest.mark.parametrize(
    ("command", "reached"), [("up", "synthesizing and deploying dev"), ("demo", "Spotkeeper demo, seed")]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_ends_it_or_a_terminal_that_is_closed_cleans_up_as_ctrl_c_does(
    up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, command: str, reached: str
) -> None:
    monkeypatch.chdir(REPOSITORY)
    running = up("--seed", "7", command=command)
    running.read_until(reached)
    started = children(running.process.pid)

    errors = running.end(number)

    assert running.process.returncode == 128 + number
    again = f"{python()} -m emulation {command} --seed 7"
    assert errors.strip() == f"stopped; nothing is left running. Start again: {again}"
    assert list(tmp_path.glob("spotkeeper-*")) == []
    assert list(tmp_path.glob("jsii-*")) == []
    eventually(lambda: {pid for pid in started if Path(f"/proc/{pid}").exists()}, lambda left: not left)


def test_only_folders_of_processes_that_are_gone_are_abandoned(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [f"spotkeeper-demo-{os.getpid()}-a", f"spotkeeper-other-{gone.pid}-a", "spotkeeper-demo-x", f"{gone.pid}"]
    for name in (f"spotkeeper-demo-{gone.pid}-a", f"spotkeeper-emulation-{gone.pid}-b", *kept):
        (tmp_path / name / "cloud").mkdir(parents=True)

    remove_abandoned(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


# The file that says where


def test_the_file_is_there_for_as_long_as_the_emulation_and_no_longer(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with announce(endpoint_url="http://127.0.0.1:9", region="us-east-1", environment="dev", environ=environ) as file:
        assert json.loads(file.read_text()) == {
            "endpoint_url": "http://127.0.0.1:9",
            "region": "us-east-1",
            "environment": "dev",
            "pid": os.getpid(),
        }
        assert [path.name for path in file.parent.iterdir()] == ["local.json"]

    assert not local_endpoint_file(environ).exists()


@pytest.mark.parametrize(
    "left_behind", ["", "not JSON", "[]", "{}", '{"pid": "x", "endpoint_url": "", "environment": "dev"}']
)
def test_a_file_that_says_nothing_true_does_not_block_a_start(tmp_path: Path, left_behind: str) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    file = local_endpoint_file(environ)
    file.parent.mkdir(parents=True)
    file.write_text(left_behind)

    with (
        only_one(environ),
        announce(endpoint_url="http://127.0.0.1:9", region="us-east-1", environment="dev", environ=environ) as file,
    ):
        assert json.loads(file.read_text())["pid"] == os.getpid()


def test_a_file_of_a_killed_emulation_does_not_name_the_one_that_starts(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    file = local_endpoint_file(environ)
    with only_one(environ):
        file.write_text('{"pid": 1, "endpoint_url": "http://127.0.0.1:9", "environment": "dev"}')
        with (
            pytest.raises(ValueError, match=rf"is starting already \(process {os.getpid()}\): wait"),
            only_one(environ),
        ):
            pass
