"""`spotkeeper-exec --checkpoint-folder` as a process, with programs that know nothing of Spotkeeper."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_REFUSED, EXIT_YIELDED
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.local_store import LocalStore
from tests.trainer.fake_imds import FakeImds
from tests.trainer.run_ledger import JOB, RunLedger
from tests.trainer.test_exec import Done

FRAMEWORK = textwrap.dedent(
    """
    # Saves as frameworks do: into a folder of its own for each checkpoint, of which it keeps one.
    import json, os, pathlib, shutil, signal, sys

    OUT, LAST, DIES_AT = pathlib.Path("out"), int(sys.argv[1]), int(sys.argv[2])
    WAITS_AT = int(sys.argv[3]) if len(sys.argv) > 3 else -1
    asked = []
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))

    def save(step, total):
        folder = OUT / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "total": total}))
        (folder / "model.bin").write_bytes(bytes([step % 256]) * 100_000)
        for old in OUT.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)

    found = sorted(OUT.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    state = json.loads((found[-1] / "state.json").read_text()) if found else {"step": 0, "total": 0}
    print("begins at", state["step"], flush=True)
    for step in range(state["step"] + 1, LAST + 1):
        state = {"step": step, "total": state["total"] + step}
        if step == WAITS_AT:
            print("waits", flush=True)
            while not asked:
                signal.pause()
        if asked:
            save(**state)
            sys.exit(0)
        if step % 2 == 0:
            save(**state)
        if step == DIES_AT:
            (OUT / f"checkpoint-{step + 1}").mkdir()
            (OUT / f"checkpoint-{step + 1}" / "state.json").write_text('{"st')
            os.kill(os.getpid(), signal.SIGKILL)
    print("total", state["total"], flush=True)
    """
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "framework.py").write_text(FRAMEWORK)
    return tmp_path / "framework.py"


def command(program: Path, *arguments: object, options: tuple[str, ...] = ()) -> list[str]:
    started = [sys.executable, "-m", "spotkeeper.trainer.exec", "--checkpoint-folder", "out", *options, "--"]
    return [*started, sys.executable, str(program), *map(str, arguments)]


def done(process: "subprocess.CompletedProcess[str]") -> Done:
    parsed = [parse_line(line) for line in process.stdout.splitlines()]
    return Done(process.returncode, [line for line in parsed if line is not None], process.stdout + process.stderr)


def run(command: list[str], environ: dict[str, str], host: Path) -> Done:
    host.mkdir(exist_ok=True)
    return done(subprocess.run(command, env=environ, cwd=host, capture_output=True, text=True, check=False))


def as_attempt(environ: dict[str, str], number: int) -> dict[str, str]:
    return {**environ, "AWS_BATCH_JOB_ATTEMPT": str(number)}


def test_a_program_goes_on_on_another_host_where_it_stopped_on_the_last(
    environ: dict[str, str], program: Path, tmp_path: Path, ledger: RunLedger
) -> None:
    first = run(command(program, 5, -1), environ, tmp_path / "host-1")
    ledger.put(state="submitted", submission=1, epoch=1, version=1)
    second = run(command(program, 9, -1), as_attempt(environ, 2), tmp_path / "host-2")

    assert (first.code, first.events()) == (EXIT_COMPLETED, ["claimed", "started", "committed", "completed"])
    assert second.code == EXIT_COMPLETED, second.output
    assert second.events() == ["claimed", "resumed", "committed", "completed"]
    assert "begins at 4" in second.output
    assert f"total {sum(range(1, 10))}" in second.output


def test_what_a_killed_program_left_half_written_is_never_resumed(
    environ: dict[str, str], program: Path, tmp_path: Path
) -> None:
    run(command(program, 4, -1), environ, tmp_path / "host")
    environ = {name: value for name, value in environ.items() if name != "SPOTKEEPER_LEDGER_TABLE"}

    killed = run(command(program, 99, 7), environ, tmp_path / "host")
    # On the same host, where the half of a checkpoint still lies.
    after = run(command(program, 9, -1), environ, tmp_path / "host")

    assert killed.code == 128 + signal.SIGKILL, killed.output
    assert after.code == EXIT_COMPLETED, after.output
    assert "begins at 4" in after.output
    assert f"total {sum(range(1, 10))}" in after.output
    (resumed,) = [line for line in after.lines if line["event"] == "resumed"]
    assert (Path(resumed["set_aside"]) / "checkpoint-8" / "state.json").read_text() == '{"st'


def test_when_ec2_takes_the_host_the_program_gets_the_chosen_signal_and_what_it_saves_is_committed(
    environ: dict[str, str], program: Path, tmp_path: Path, imds: FakeImds
) -> None:
    environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.endpoint
    (tmp_path / "host").mkdir()
    with subprocess.Popen(
        command(program, 99, -1, 7, options=("--notice-signal", "USR1")),
        env=environ,
        cwd=tmp_path / "host",
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "waits" not in process.stdout.readline():
            pass
        # Two minutes of lingering are over already: the host should have gone by then.
        gone = datetime.now(UTC) - timedelta(seconds=200)
        imds.documents["spot/instance-action"] = json.dumps(
            {"action": "terminate", "time": gone.strftime("%Y-%m-%dT%H:%M:%SZ")}
        )
        output, _ = process.communicate(timeout=200)

    lines = [line for line in map(parse_line, output.splitlines()) if line is not None]
    assert process.returncode == EXIT_YIELDED
    assert [line["event"] for line in lines] == ["notice", "committed", "lingering", "yielded"]
    assert lines[1]["cause"] == "notice"
    imds.documents.clear()
    again = run(command(program, 8, -1), as_attempt(environ, 2), tmp_path / "host-2")
    assert "begins at 7" in again.output


def test_what_a_program_saves_after_a_newer_attempt_has_started_is_not_committed(
    environ: dict[str, str], program: Path, tmp_path: Path
) -> None:
    (tmp_path / "host").mkdir()
    with subprocess.Popen(
        command(program, 99, -1, 7), env=environ, cwd=tmp_path / "host", stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while "waits" not in process.stdout.readline():
            pass
        store = LocalStore(Path(environ["SPOTKEEPER_URI"]))
        assert store.put_if_absent("epoch/tiny/000002", b"{}")
        os.kill(process.pid, signal.SIGUSR1)  # upon which the program saves and ends
        output, _ = process.communicate(timeout=200)

    assert process.returncode == EXIT_FENCED, output
    assert store.list("commit/tiny/") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SPOTKEEPER_URI": "out/kept"}, "must lie apart"),
        ({"SPOTKEEPER_URI": "."}, "must lie apart"),
        ({"SPOTKEEPER_CHECKPOINT_FOLDER": "../out"}, "must be a folder of its own"),
        ({"SPOTKEEPER_NOTICE_SIGNAL": "KILL"}, "must be one of TERM, INT, USR1, USR2"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_program_starts(
    environ: dict[str, str], program: Path, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    started = [sys.executable, "-m", "spotkeeper.trainer.exec", "--", sys.executable, str(program), "1", "-1"]

    refused = run(started, {"SPOTKEEPER_CHECKPOINT_FOLDER": "out", **environ, **change}, tmp_path / "host")

    assert (refused.code, "begins" in refused.output) == (EXIT_REFUSED, False)
    assert said in refused.output


def test_a_program_that_uses_the_library_as_well_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "both.py"
    program.write_text("import torch, spotkeeper\nspotkeeper.Run(model=torch.nn.Linear(1, 1))\n")

    refused = run(command(program), environ, tmp_path / "host")

    assert refused.code != EXIT_COMPLETED
    assert "leave out --checkpoint-folder, or the library" in refused.output


def test_without_a_ledger_it_works_on_a_laptop(environ: dict[str, str], program: Path, tmp_path: Path) -> None:
    environ = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("SPOTKEEPER", "AWS_BATCH")) or name == "SPOTKEEPER_URI"
    }

    run(command(program, 2, -1), environ, tmp_path / "host")
    again = run(command(program, 4, -1), environ, tmp_path / "host")

    assert again.code == EXIT_COMPLETED, again.output
    assert "begins at 2" in again.output
    assert JOB not in again.output
    assert (tmp_path / "checkpoints" / "commit" / "framework").is_dir()
