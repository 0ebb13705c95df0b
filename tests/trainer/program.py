"""A training, or an attempt, in a process of its own, followed by its structured lines."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spotkeeper.contract.log_lines import PREFIX, parse_line
from tests.trainer.conftest import REPOSITORY, clean_environ
from tests.trainer.forked_process import ForkedProcess, warm_python

POLLS_QUICKLY = "from spotkeeper.trainer.exec import main; main(poll_seconds=0.05)"


class Program:
    """A process and its output so far."""

    def __init__(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.other_output: list[str] = []

    def wait_for(self, event: str) -> dict[str, Any]:
        for line in self.read():
            if line["event"] == event:
                return line
        raise AssertionError(f"the program ended without {event!r}: {self.lines} {self.other_output}")

    def wait_to_hear(self, text: str) -> None:
        """Wait until the program itself has printed this line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not self._take(line) and line.rstrip() == text:
                return
        raise AssertionError(f"the program ended without {text!r}: {self.lines} {self.other_output}")

    def go_on(self) -> None:
        """Write the line that the program waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        for _ in self.read():
            pass
        return self.process.wait(timeout=100)

    def read(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            if (line := self._take(text)) is not None:
                yield line

    def _take(self, text: str) -> dict[str, Any] | None:
        # Another process of the program, or torch, may have begun a line of its own in front of it.
        line = parse_line(text[max(0, text.find(PREFIX)) :].rstrip())
        if line is None:
            self.other_output.append(text)
        else:
            self.lines.append(line)
        return line

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines if line["event"] != "progress"]


@contextmanager
def running(
    arguments: list[str], environ: dict[str, str], *, end_by: int = signal.SIGKILL, within: Sequence[str] = ()
) -> Iterator[Program]:
    """Start Python with these arguments in the repository; what still runs after the block is sent `end_by`.

    `within` is a command that becomes Python, in surroundings of its own.
    """
    with subprocess.Popen(
        [*within, sys.executable, *arguments],
        env=environ,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.send_signal(end_by)


@contextmanager
def attempt(command: list[str], environ: dict[str, str]) -> Iterator[Program]:
    """Start `spotkeeper-exec` with this command; it looks at its run more often than it would elsewhere."""
    with running(["-c", POLLS_QUICKLY, "--", *command], environ) as program:
        yield program


@contextmanager
def forked(arguments: list[str], environ: dict[str, str], *, end_by: int = signal.SIGKILL) -> Iterator[Program]:
    """The same in a fork of a Python that has torch loaded."""
    with warm_python().start(arguments, environ) as process:
        try:
            yield Program(process)
        finally:
            process.send_signal(end_by)


def drive(folder: Path, *arguments: str, start: Callable[..., Any] = forked, **variables: str) -> int:
    """Train as the arguments of the kill driver say, saving after each step; return how many attempts were killed.

    Any warning is an error. `start` may be `running`, for a Python of its own.
    """
    settings = {"SPOTKEEPER_URI": str(folder), "SPOTKEEPER_RUN_ID": "tiny", "SPOTKEEPER_MAX_LOST_SECONDS": "0.000001"}
    environ = clean_environ(**{**settings, **variables})
    with start(["-W", "error", "-m", "tests.trainer.kill_driver", *arguments], environ) as program:
        assert program.end() == 0, program.other_output
    (killed,) = [line for line in program.other_output if line.startswith("killed ")]
    return int(killed.split()[-1])
