import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emulation.batch.processes import Container, Reaper
from tests.emulation.compute import eventually

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def run(script: str, folder: Path) -> tuple[int, list[str]]:
    lines: list[str] = []
    container = Container(["sh", "-c", script], environment=PATH, mark="test/run", folder=folder, on_line=lines.append)
    container.start()
    return container.wait(), lines


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 75", 75), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_codes_are_those_of_a_container_engine(tmp_path: Path, script: str, code: int) -> None:
    assert run(script, tmp_path)[0] == code


def test_all_output_arrives_in_order_and_in_whole_lines(tmp_path: Path) -> None:
    _, lines = run("for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\\377last'", tmp_path)
    assert lines == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3", "�last"]


def test_a_container_ends_with_its_program_whatever_that_left_running(tmp_path: Path) -> None:
    code, lines = run("setsid sleep 60 & sleep 60 & echo started; exit 3", tmp_path)
    assert (code, lines) == (3, ["started"])
    assert not marked("test/run")


def test_sigterm_goes_to_the_program_alone_and_sigkill_to_everything(tmp_path: Path) -> None:
    lines: list[str] = []
    script = (
        "(trap 'echo child got it' TERM; while :; do sleep 0.02; done) & trap 'echo program got it' TERM; echo up; "
    )
    container = Container(
        ["sh", "-c", script + "while :; do sleep 0.02; done"],
        environment=PATH,
        mark="test/signals",
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
    assert not marked("test/signals")
    container.terminate()  # long gone: no signal, no error


def test_marks_do_not_reach_a_container_whose_mark_begins_the_same(tmp_path: Path) -> None:
    first, second = (
        Container(["sleep", "60"], environment=PATH, mark=mark, folder=tmp_path, on_line=print)
        for mark in ("test/1", "test/11")
    )
    first.start()
    second.start()
    first.kill()
    assert first.wait() == 137
    assert marked("test/11")
    second.kill()
    assert second.wait() == 137


EMULATION = """
import sys, threading
from pathlib import Path
from emulation.batch.processes import Container, Reaper
Reaper("orphans-of-a-test")
container = Container(
    ["sh", "-c", "setsid sleep 60 & echo up; sleep 60"],
    environment={"PATH": "/usr/bin:/bin"},
    mark="orphans-of-a-test/1",
    folder=Path(sys.argv[1]),
    on_line=lambda line: print(line, flush=True),
)
container.start()
container.wait()
"""


def test_containers_do_not_outlive_an_emulation_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", EMULATION, str(tmp_path)], stdout=subprocess.PIPE) as emulation:
        assert emulation.stdout is not None
        assert emulation.stdout.readline() == b"up\n"
        assert len(marked("orphans-of-a-test/")) >= 2
        emulation.send_signal(signal.SIGKILL)
    eventually(lambda: not marked("orphans-of-a-test/"))


def test_a_reaper_ends_when_it_is_told_to() -> None:
    reaper = Reaper("nobody")
    reaper.stop()
    assert not marked("nobody")


def marked(mark: str) -> list[str]:
    """Return the processes that carry a mark, as `ps` knows them."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"SPOTKEEPER_EMULATION_CONTAINER={mark}" in line]
