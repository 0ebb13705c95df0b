"""Containers as processes: what a job starts belongs to it, and ends with it.

Every process of a container inherits one environment variable, its mark. On Linux the mark finds all of them, also
those that moved into a session of their own; elsewhere the process group does. Run as a program, this module is the
reaper: it waits until its parent is gone, however that happened, and ends whatever still carries the parent's mark.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

MARK: Final = "SPOTKEEPER_EMULATION_CONTAINER"
"""Name of the variable; its value is `<emulation id>/<container id>`."""

_PROC: Final = Path("/proc")
_KILL_SECONDS: Final = 5.0
_LAST_LINES_SECONDS: Final = 1.0


class Container:
    """A program with everything that it starts.

    Args:
        command: Program and arguments.
        environment: All of its environment variables.
        mark: `<emulation id>/<container id>`, unique.
        folder: Working directory.
        on_line: Called with every line of output, standard output and error together, without the newline, on a thread
            of the container's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        mark: str,
        folder: Path,
        on_line: Callable[[str], None],
    ) -> None:
        self._command = list(command)
        self._mark = f"{mark}/"  # the slash keeps one mark from being the beginning of another
        self._environment = {**environment, MARK: self._mark}
        self._folder = folder
        self._on_line = on_line
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()  # guards the pid against reuse: no signal after the program was reaped

    def start(self) -> None:
        """Start the program.

        Raises:
            OSError: if there is no such program, or it may not be started.
        """
        process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process,), name="container-output", daemon=True)
        self._reader.start()

    def wait(self) -> int:
        """Wait for the program and end what it left behind.

        Returns:
            Its exit code as a container engine states it: 128 + the signal's number if a signal ended it.
        """
        process, reader = self._process, self._reader
        if process is None or reader is None:
            raise RuntimeError("start the container before waiting for it")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its pid stays ours until poll() below
        with self._lock:
            self._kill_all(process.pid)
            code = process.wait()
        reader.join(_LAST_LINES_SECONDS)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """Send SIGTERM to the program, as to PID 1 of a container: passing it on is the program's task."""
        self._signal(lambda pid: os.kill(pid, signal.SIGTERM))

    def kill(self) -> None:
        """End everything at once, as when the host dies."""
        self._signal(self._kill_all)

    def _signal(self, send: Callable[[int], None]) -> None:
        with self._lock:
            if self._process is not None and self._process.returncode is None:
                send(self._process.pid)

    def _kill_all(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(pid, signal.SIGKILL)
        kill_marked(self._mark)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise RuntimeError("the program was started without a pipe for its output")
        with process.stdout as output:
            for line in output:
                self._on_line(line.decode(errors="replace").rstrip("\r\n"))


class Reaper:
    """A process that outlives this one by a moment, and ends the containers that this one left behind.

    Args:
        emulation_id: First part of the containers' marks.
    """

    def __init__(self, emulation_id: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, f"{emulation_id}/"],
            stdin=subprocess.PIPE,
            env={},
            start_new_session=True,  # Ctrl-C is for the emulation, which then stops it
        )

    def stop(self) -> None:
        """Let it end whatever is left, and wait for it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def kill_marked(mark: str) -> None:
    """Send SIGKILL to all processes whose mark begins so, and return when none is left. Does nothing outside Linux.

    Raises:
        TimeoutError: if some are still there after five seconds.
    """
    give_up = time.monotonic() + _KILL_SECONDS
    while marked := _marked(mark):
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up:
            raise TimeoutError(f"processes {marked} of container {mark} did not end {_KILL_SECONDS:g} s after SIGKILL")


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(variable.startswith(wanted) for variable in variables):
                    found.append(int(entry.name))
    return found


def _reap(mark: str) -> None:
    while sys.stdin.buffer.read(4096):
        pass  # nobody writes: the end of the file is the end of the parent
    kill_marked(mark)


if __name__ == "__main__":
    _reap(sys.argv[1])
