"""Programs of tests in forks of a Python that has torch loaded; warm_python.py says what they share."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Final, Self

from tests.trainer.conftest import REPOSITORY, clean_environ

REPORT_BYTES: Final = 64


class ForkedProcess:
    """A program in a fork; what tests need of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], *, stdin: int, stdout: int, reports: socket.socket) -> None:
        self.args = arguments
        self.stdin = os.fdopen(stdin, "w")
        self.stdout = os.fdopen(stdout)
        self.returncode: int | None = None
        self._reports = reports
        self.pid = self._next_report()

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._reports.settimeout(timeout)
            try:
                self.returncode = self._next_report()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.wait()
        self._reports.close()

    def _next_report(self) -> int:
        report = self._reports.recv(REPORT_BYTES)
        if not report:
            raise RuntimeError("the Python that forks has ended: what it said stands above")
        return int(report)


class WarmPython:
    """The side of the tests."""

    def __init__(self) -> None:
        self._requests, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.trainer.warm_python", str(its.fileno())],
                pass_fds=[its.fileno()], env=clean_environ(), cwd=REPOSITORY, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self._end)

    def start(self, arguments: Sequence[str], environ: Mapping[str, str]) -> ForkedProcess:
        """Start a program: `-m MODULE` with its arguments, perhaps after `-W error`."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        its_input, our_input = os.pipe()
        our_output, its_output = os.pipe()
        request = json.dumps({"arguments": list(arguments), "environ": dict(environ)}).encode()
        socket.send_fds(self._requests, [request], [its_input, its_output, its.fileno()])
        its.close()
        os.close(its_input)
        os.close(its_output)
        return ForkedProcess(arguments, stdin=our_input, stdout=our_output, reports=ours)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait()


@cache
def warm_python() -> WarmPython:
    """Return the one of this test process."""
    return WarmPython()
