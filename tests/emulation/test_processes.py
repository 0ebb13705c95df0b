import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emulation.batch.processes import Container, Reaper
from tests.emulation.compute import eventually

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def mark() -> str:
    """One that no other test has, also in another run of the tests: marked processes are killed machine-wide."""
    return f"test-{secrets.token_hex(8)}"


def run(script: str, folder: Path, mark: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    container = Container(["sh", "-c", script], environment=PATH, mark=mark, folder=folder, on_line=lines.append)
    container.start()
    return container.wait(), lines


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 75", 75), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_codes_are_those_of_a_container_engine(tmp_path: Path, mark: str, script: str, code: int) -> None:
    assert run(script, tmp_path, mark)[0] == code


def test_all_output_arrives_in_order_and_in_whole_lines(tmp_path: Path, mark: str) -> None:
    _, lines = run("for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\\377last'", tmp_path, mark)
    assert lines == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3", "�last"]


def test_a_container_ends_with_its_program_whatever_that_left_running(tmp_path: Path, mark: str) -> None:
    code, lines = run("setsid sleep 60 & sleep 60 & echo started; exit 3", tmp_path, mark)
    assert (code, lines) == (3, ["started"])
    assert not marked(f"{mark}/")


def test_sigterm_goes_to_the_program_alone_and_sigkill_to_everything(tmp_path: Path, mark: str) -> None:
    lines: list[str] = []
    script = (
        "(trap 'echo child got it' TERM; while :; do sleep 0.02; done) & trap 'echo program got it' TERM; echo up; "
    )
    container = Container(
        ["sh", "-c", script + "while :; do sleep 0.02; done"],
        environment=PATH,
        mark=mark,
        folder=tmp_path,
        on_line=lines.append,
    )
    container.start()
    eventually(lambda: lines == ["up"])
    container.terminate()
    eventually(lambda: len(lines) > 1)
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(container.wait()))
    waiter.start()
    container.kill()
    waiter.join(10)
    assert codes == [137]
    assert lines == ["up", "program got it"]
    assert not marked(f"{mark}/")
    container.terminate()  # long gone: no signal, no error


def test_marks_do_not_reach_a_container_whose_mark_begins_the_same(tmp_path: Path, mark: str) -> None:
    first, second = (
        Container(["sleep", "60"], environment=PATH, mark=name, folder=tmp_path, on_line=print)
        for name in (f"{mark}/1", f"{mark}/11")
    )
    first.start()
    second.start()
    first.kill()
    assert first.wait() == 137
    assert marked(f"{mark}/11/")
    second.kill()
    assert second.wait() == 137


EMULATION = """
import sys, threading
from pathlib import Path
from emulation.batch.processes import Container, Reaper
_, folder, emulation_id = sys.argv
Reaper(emulation_id)
container = Container(
    ["sh", "-c", "setsid sleep 60 & echo up; sleep 60"],
    environment={"PATH": "/usr/bin:/bin"},
    mark=f"{emulation_id}/1",
    folder=Path(folder),
    on_line=lambda line: print(line, flush=True),
)
container.start()
container.wait()
"""


def test_containers_do_not_outlive_an_emulation_that_was_killed(tmp_path: Path, mark: str) -> None:
    command = [sys.executable, "-c", EMULATION, str(tmp_path), mark]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as emulation:
        assert emulation.stdout is not None
        assert emulation.stdout.readline() == b"up\n"
        assert len(marked(f"{mark}/")) >= 2
        emulation.send_signal(signal.SIGKILL)
    eventually(lambda: not marked(f"{mark}/"))


def test_a_reaper_ends_when_it_is_told_to(mark: str) -> None:
    reaper = Reaper(mark)
    reaper.stop()
    assert not marked(f"{mark}/")


def marked(mark: str) -> list[str]:
    """Return the processes that carry a mark, as `ps` knows them."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"SPOTKEEPER_EMULATION_CONTAINER={mark}" in line]
