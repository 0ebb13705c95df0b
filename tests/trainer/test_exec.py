"""`spotkeeper-exec` as a process, against a ledger, a bucket and a metadata service on this machine."""

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from mypy_boto3_s3 import S3Client

from spotkeeper.contract.exit_codes import (
    EXIT_COMPLETED,
    EXIT_FENCED,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_YIELDED,
)
from spotkeeper.contract.ledger import attempt_sort_key
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.attempt_ledger import AttemptLedger, LedgerUnavailableError
from spotkeeper.trainer.attempt_settings import AttemptSettings, Claim
from spotkeeper.trainer.outcome_file import Outcome, OutcomeFile
from spotkeeper.trainer.source_archive import SourceUnavailableError, install_requirements, unpack
from spotkeeper.trainer.time_limit import seconds_until_warning
from tests.trainer.conftest import REPOSITORY, clean_environ, closed_port
from tests.trainer.fake_imds import FakeImds
from tests.trainer.run_ledger import JOB, RunLedger

EXEC = [sys.executable, "-m", "spotkeeper.trainer.exec", "--"]


@dataclass
class Done:
    code: int
    lines: list[dict[str, Any]]
    output: str

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


def run_exec(command: list[str], environ: dict[str, str], cwd: Path = REPOSITORY) -> Done:
    done = subprocess.run([*EXEC, *command], env=environ, cwd=cwd, capture_output=True, text=True, check=False)
    parsed = [parse_line(line) for line in done.stdout.splitlines()]
    return Done(done.returncode, [line for line in parsed if line is not None], done.stdout + done.stderr)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def says(outcome: str, step: int) -> str:
    """Return a program that tells spotkeeper-exec what the library would."""
    content = json.dumps({"outcome": outcome, "step": step})
    return f"import os; open(os.environ['SPOTKEEPER_OUTCOME_FILE'], 'w').write({content!r})"


# The ledger


def test_an_attempt_claims_says_where_it_runs_and_records_its_completion(
    environ: dict[str, str], ledger: RunLedger, imds: FakeImds
) -> None:
    imds.documents.update(
        {
            "instance-id": "i-0123456789abcdef0",
            "instance-type": "g5.xlarge",
            "placement/availability-zone": "us-east-1a",
            "instance-life-cycle": "spot",
        }
    )
    program = says("completed", 1200) + "; assert os.environ['SPOTKEEPER_EPOCH'] == '1'"

    done = run_exec(python(program), {**environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint})

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["claimed", "completed"]), done.output
    assert done.lines[0]["epoch"] == 1
    assert (done.lines[0]["instance_type"], done.lines[0]["availability_zone"]) == ("g5.xlarge", "us-east-1a")
    run = ledger.item()
    assert (run["state"]["S"], run["epoch"]["N"], run["job_id"]["S"]) == ("running", "1", JOB)
    assert run["completion"]["M"]["step"] == {"N": "1200"}
    assert run["completion"]["M"]["epoch"] == {"N": "1"}
    attempt = ledger.item(attempt_sort_key(1, 1))
    assert (attempt["instance_id"]["S"], attempt["market"]["S"]) == ("i-0123456789abcdef0", "spot")


def test_off_ec2_an_attempt_claims_without_a_placement(environ: dict[str, str], ledger: RunLedger) -> None:
    done = run_exec(["true"], environ)

    assert done.code == EXIT_COMPLETED, done.output
    assert "instance_id" not in ledger.item(attempt_sort_key(1, 1))
    assert "step" not in ledger.item()["completion"]["M"]


@pytest.mark.parametrize(
    "fields",
    [
        {"submission": 2},
        {"state": "cancelled"},
        {"cancel_requested_at": "2026-11-23T10:00:00Z"},
        {"job_id": "another"},
        {"job_id": JOB, "claimed_job_id": JOB, "claimed_attempt": 2},
    ],
)
def test_an_attempt_that_may_not_have_the_run_does_not_start_the_program(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path, fields: dict[str, str | int]
) -> None:
    ledger.put(**{"state": "submitted", "submission": 1, "epoch": 4, "version": 1, **fields})

    done = run_exec(["touch", str(tmp_path / "started")], environ)

    assert (done.code, done.events()) == (EXIT_FENCED, ["fenced"]), done.output
    assert not (tmp_path / "started").exists()
    assert ledger.item()["epoch"]["N"] == "4"


def test_a_program_that_ends_after_a_newer_attempt_has_claimed_is_no_success(
    environ: dict[str, str], ledger: RunLedger
) -> None:
    claims_meanwhile = (
        "import boto3, os; boto3.client('dynamodb').update_item(TableName=os.environ['SPOTKEEPER_LEDGER_TABLE'],"
        "Key={'pk': {'S': 'RUN#tiny'}, 'sk': {'S': 'RUN'}}, UpdateExpression='ADD epoch :one',"
        "ExpressionAttributeValues={':one': {'N': '1'}})"
    )

    done = run_exec(python(claims_meanwhile), environ)

    assert (done.code, done.events()) == (EXIT_FENCED, ["claimed", "fenced"]), done.output
    assert "completion" not in ledger.item()


def test_a_program_that_exits_0_without_having_finished_is_no_success(
    environ: dict[str, str], ledger: RunLedger
) -> None:
    done = run_exec(python(says("started", 3)), environ)

    assert done.code == EXIT_INCOMPLETE, done.output
    assert "completion" not in ledger.item()


def test_a_ledger_that_does_not_exist_is_refused_without_waiting(environ: dict[str, str]) -> None:
    done = run_exec(["true"], {**environ, "SPOTKEEPER_LEDGER_TABLE": "nowhere"})

    assert done.code == EXIT_REFUSED
    assert "the ledger 'nowhere' cannot be used" in done.output


def test_a_ledger_that_does_not_answer_is_asked_for_a_while_only(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    claim = Claim(table="ledger", submission=1, job_id=JOB, attempt=1)

    with pytest.raises(LedgerUnavailableError):
        AttemptLedger("tiny", claim, patience_seconds=0.1).claim()
    with pytest.raises(LedgerUnavailableError):
        AttemptLedger("tiny", claim).look()


def test_a_claim_is_repeated_when_its_reply_was_an_outage(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    with answering([(500, {}), (500, {}), (500, {}), (200, {"Attributes": {"epoch": {"N": "7"}}})]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        claim = Claim(table="ledger", submission=1, job_id=JOB, attempt=1)

        assert AttemptLedger("tiny", claim).claim().epoch == 7


@contextmanager
def answering(replies: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """Serve these replies one after another."""
    remaining = iter(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, content = next(remaining)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# The program


def test_on_a_laptop_it_just_runs_the_program() -> None:
    done = run_exec(python("import os, sys; assert 'SPOTKEEPER_EPOCH' not in os.environ; sys.exit(3)"), clean_environ())

    assert (done.code, done.lines) == (3, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_reaches_the_program_and_its_end_counts_as_yielded(number: signal.Signals) -> None:
    program = python(
        f"import signal, sys, threading; signal.signal({int(number)}, lambda *_: sys.exit(0));"
        "print('ready', flush=True); threading.Event().wait(30)"
    )
    with subprocess.Popen([*EXEC, *program], env=clean_environ(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output = process.stdout.read()

    assert process.returncode == EXIT_YIELDED
    line = parse_line(output.strip())
    assert line is not None
    assert (line["event"], line["reason"]) == ("yielded", number.name)


def test_a_program_without_handlers_dies_of_the_signal_and_has_yielded() -> None:
    program = python("import time; print('ready', flush=True); time.sleep(30)")
    with subprocess.Popen([*EXEC, *program], env=clean_environ(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()

    assert process.returncode == EXIT_YIELDED


def test_a_program_that_is_killed_gives_the_code_that_batch_would_see() -> None:
    assert run_exec(python("import os; os.kill(os.getpid(), 9)"), clean_environ()).code == 137


def test_the_program_starts_with_its_signals_neither_blocked_nor_ignored() -> None:
    program = (
        "import signal; numbers = (signal.SIGTERM, signal.SIGUSR1);"
        "assert not signal.pthread_sigmask(signal.SIG_BLOCK, []);"
        "assert all(signal.getsignal(number) is signal.SIG_DFL for number in numbers)"
    )

    done = run_exec(python(program), clean_environ())

    assert done.code == EXIT_COMPLETED, done.output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "no program to run. usage: spotkeeper-exec"),
        (["--fast"], "no program to run"),
        (["no-such-program"], "'no-such-program' cannot be started: No such file"),
        ([str(REPOSITORY / "pyproject.toml")], "cannot be started: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_started_is_refused(command: list[str], message: str) -> None:
    done = run_exec(command, clean_environ())

    assert done.code == EXIT_REFUSED
    assert message in done.output


def test_every_unusable_variable_is_named_at_once() -> None:
    environ = {
        "SPOTKEEPER_RUN_ID": "tiny",
        "SPOTKEEPER_LEDGER_TABLE": "ledger",
        "SPOTKEEPER_SUBMISSION": "0",
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "SPOTKEEPER_SOURCE_URI": "https://example.com/a.tar.gz",
        "SPOTKEEPER_REQUIREMENTS_FILE": "../outside.txt",
    }
    with pytest.raises(ValueError, match="unusable environment") as raised:
        AttemptSettings.read(environ)

    for problem in (
        "SPOTKEEPER_URI is not set",
        "AWS_BATCH_JOB_ID is not set",
        "SPOTKEEPER_SUBMISSION='0'",
        "SPOTKEEPER_SOURCE_URI='https",
        "SPOTKEEPER_SOURCE_SHA256 is not set",
        "SPOTKEEPER_REQUIREMENTS_FILE='../outside.txt'",
    ):
        assert problem in str(raised.value)
    assert "AWS_BATCH_JOB_ATTEMPT" not in str(raised.value)


def test_an_outcome_file_that_is_damaged_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert OutcomeFile(path).read() is None
    for content in ("", "{", "[]", '{"outcome": "completed"}', '{"outcome": "grand", "step": 1}'):
        path.write_text(content)
        assert OutcomeFile(path).read() == Outcome("started", None)


def test_a_training_under_a_shell_is_told_and_waited_for_when_a_signal_ends_the_shell(tmp_path: Path) -> None:
    training = (
        "import signal, subprocess, sys, threading, time, os; told = threading.Event();"
        # a worker under the training, which must outlive its save
        "worker = subprocess.Popen(['sleep', '30']);"
        "signal.signal(signal.SIGTERM, lambda *_: told.set()); print('ready', flush=True);"
        "[time.sleep(0.02) for _ in iter(told.is_set, True)]; time.sleep(0.5);"
        f"open({str(tmp_path / 'saved')!r}, 'w').write(str(worker.poll())); worker.kill(); " + says("yielded", 7)
    )
    shell = ["sh", "-c", f'{sys.executable} -c "$0"; echo end', training]
    with subprocess.Popen([*EXEC, *shell], env=clean_environ(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == EXIT_YIELDED
        assert (tmp_path / "saved").read_text() == "None"


def test_before_its_time_limit_the_program_is_told_to_save_so_that_batch_goes_on() -> None:
    program = python(
        "import signal, sys, threading; signal.signal(15, lambda *_: sys.exit(0)); threading.Event().wait(30)"
    )

    done = run_exec(program, {**clean_environ(), "SPOTKEEPER_ATTEMPT_SECONDS": "4"})

    assert done.code == EXIT_YIELDED, done.output
    assert "its time limit ends this attempt 4 s after its start" in done.output
    assert done.lines[-1]["reason"] == "SIGTERM"


@pytest.mark.parametrize(
    ("limit_seconds", "warned_after"), [(4, 2), (60, 30), (200, 170), (1200, 1080), (86400, 86100)]
)
def test_the_warning_comes_a_tenth_before_the_limit_within_bounds(limit_seconds: float, warned_after: float) -> None:
    assert seconds_until_warning(limit_seconds) == warned_after


@pytest.mark.parametrize("code", [EXIT_YIELDED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED])
def test_a_program_that_exits_with_one_of_our_codes_by_itself_has_failed(code: int) -> None:
    done = run_exec(["sh", "-c", f"exit {code}"], clean_environ())

    assert done.code == 1
    assert f"exited {code}, a code of spotkeeper's own" in done.output


def test_a_retry_after_the_completion_was_recorded_does_not_train_again(
    environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    assert run_exec(python(says("completed", 9)), environ).code == EXIT_COMPLETED

    done = run_exec(["touch", str(tmp_path / "started")], {**environ, "AWS_BATCH_JOB_ATTEMPT": "2"})

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["completed"]), done.output
    assert (done.lines[0]["step"], done.lines[0]["reason"]) == (9, "the run is complete already")
    assert not (tmp_path / "started").exists()
    assert ledger.item()["epoch"]["N"] == "1"


def test_an_attempt_goes_on_when_where_it_runs_cannot_be_recorded(environ: dict[str, str]) -> None:
    denied = {"__type": "com.amazon#AccessDeniedException", "message": "no"}
    replies: list[tuple[int, dict[str, Any]]] = [(200, {"Attributes": {"epoch": {"N": "7"}}}), (400, denied), (200, {})]
    with answering(replies) as endpoint:
        done = run_exec(["true"], {**environ, "AWS_ENDPOINT_URL": endpoint})

    assert (done.code, done.events()) == (EXIT_COMPLETED, ["claimed", "completed"]), done.output


def test_a_region_that_is_not_known_is_refused_with_what_to_do(environ: dict[str, str]) -> None:
    del environ["AWS_DEFAULT_REGION"]
    environ |= {"AWS_CONFIG_FILE": "/nonexistent"}

    done = run_exec(["true"], environ)

    assert done.code == EXIT_REFUSED
    assert done.output.splitlines() == ["spotkeeper-exec: You must specify a region. set AWS_DEFAULT_REGION"]


# The source


def archive(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def wheel_of(module: str, content: str) -> bytes:
    """Return a wheel with one module, so that pip needs neither a network nor a build."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(f"{module}.py", content)
        wheel.writestr(f"{module}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        wheel.writestr(f"{module}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{module}-1.dist-info/RECORD", "")
    return buffer.getvalue()


@pytest.fixture
def source_bucket(aws: dict[str, str], request: pytest.FixtureRequest) -> str:
    assert aws
    name = f"source-{abs(hash(request.node.nodeid))}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def upload(bucket: str, content: bytes) -> dict[str, str]:
    client: S3Client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key="source/a.tar.gz", Body=content)
    return {
        "SPOTKEEPER_SOURCE_URI": f"s3://{bucket}/source/a.tar.gz",
        "SPOTKEEPER_SOURCE_SHA256": hashlib.sha256(content).hexdigest(),
    }


def test_the_program_runs_in_the_folder_of_its_source_with_its_requirements(
    aws: dict[str, str], source_bucket: str, tmp_path: Path
) -> None:
    content = archive(
        {
            "train.py": "import shape, needed; print('area', shape.area, needed.answer)",
            "shape.py": "area = 4",
            "requirements.txt": "./needed-1-py3-none-any.whl\n",
            "needed-1-py3-none-any.whl": wheel_of("needed", "answer = 42"),
        }
    )
    environ = clean_environ(
        **aws,
        **upload(source_bucket, content),
        SPOTKEEPER_REQUIREMENTS_FILE="requirements.txt",
        TMPDIR=str(tmp_path),
    )

    done = run_exec([sys.executable, "train.py"], environ)

    assert done.code == EXIT_COMPLETED, done.output
    assert "area 4 42" in done.output
    assert list(tmp_path.iterdir()) == []


def test_an_archive_with_another_digest_is_refused(aws: dict[str, str], source_bucket: str) -> None:
    variables = upload(source_bucket, archive({"train.py": ""}))

    done = run_exec(["true"], clean_environ(**aws, **{**variables, "SPOTKEEPER_SOURCE_SHA256": "0" * 64}))

    assert done.code == EXIT_REFUSED
    assert f"but {'0' * 64} was submitted" in done.output


def test_an_archive_that_is_not_there_is_refused(aws: dict[str, str], source_bucket: str) -> None:
    variables = upload(source_bucket, b"")
    variables["SPOTKEEPER_SOURCE_URI"] += ".gone"

    done = run_exec(["true"], clean_environ(**aws, **variables))

    assert done.code == EXIT_REFUSED
    assert "cannot be read" in done.output


@pytest.mark.parametrize("name", ["../outside.py", "a/../../outside.py"])
def test_an_archive_that_reaches_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(archive({name: "harm"}))

    with pytest.raises(ValueError, match="outside the destination"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "source")
    assert not (tmp_path / "outside.py").exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("secrets")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc"
        tar.addfile(link)

    with pytest.raises(ValueError, match="absolute path"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "source")


def with_a_damaged_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"\xff" * middle


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        archive({"train.py": "x" * 5000})[:60],
        with_a_damaged_middle(archive({"train.py": random.Random(0).randbytes(200_000)})),
    ],
    ids=["empty", "no archive", "cut off", "damaged inside"],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)

    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "source")


def test_requirements_that_pip_cannot_get_now_are_worth_another_attempt(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("./not-there-1-py3-none-any.whl\n")

    with pytest.raises(SourceUnavailableError, match=r"pip could not install requirements\.txt"):
        install_requirements(tmp_path, "requirements.txt", tmp_path / "target")


# The whole


def test_an_attempt_that_yields_is_continued_by_the_next_one_which_completes_the_run(
    environ: dict[str, str], ledger: RunLedger, source_bucket: str
) -> None:
    environ = {**environ, "SPOTKEEPER_URI": f"s3://{source_bucket}/checkpoints"}
    training = "import time; from tests.trainer.tiny_training import train; train(lambda _step: time.sleep({seconds}))"
    first = subprocess.Popen(
        [*EXEC, *python(training.format(seconds=0.5))], env=environ, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout is not None
        while '"progress"' not in first.stdout.readline():
            assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        events = [line["event"] for text in first.stdout if (line := parse_line(text.strip()))]
    assert (first.returncode, events) == (EXIT_YIELDED, ["notice", "committed", "yielded"])
    assert "completion" not in ledger.item()

    second = run_exec(python(training.format(seconds=0)), {**environ, "AWS_BATCH_JOB_ATTEMPT": "2"})

    assert (second.code, second.events()) == (
        EXIT_COMPLETED,
        ["claimed", "resumed", "progress", "committed", "progress", "completed"],
    ), second.output
    assert {line["epoch"] for line in second.lines} == {2}
    assert ledger.item()["completion"]["M"]["step"] == {"N": "16"}
