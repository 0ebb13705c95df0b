"""The program as a child of `spotkeeper-exec`: signals are passed on, and what it leaves behind is reaped.

The signals stay blocked and are taken one by one with sigwaitinfo, so that nothing happens inside a handler
and none is lost between starting the child and waiting for it.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FORWARDED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
SENT_BY_KERNEL: Final = 0x80
"""SI_KERNEL of sigaction(2): Ctrl-C at a terminal, which the child gets by itself."""


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How the program ended."""

    returncode: int
    """Its exit code, or the negative number of the signal that killed it."""
    forwarded: frozenset[int]
    """Numbers of the signals that it was sent."""


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> ChildEnd:
    """Start the program, without a shell, and wait for its end.

    Raises:
        ValueError: if there is no such program, or it may not be run.
    """
    waited = FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        # The child gets the default handlers and the mask of before.
        pid = os.posix_spawnp(command[0], list(command), dict(environ), setsigmask=before, setsigdef=FORWARDED)
        return _wait(pid, waited)
    except (FileNotFoundError, PermissionError) as error:
        raise ValueError(f"the program {command[0]!r} cannot be started: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(pid: int, waited: frozenset[int]) -> ChildEnd:
    forwarded: set[int] = set()
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != SENT_BY_KERNEL:
                os.kill(pid, received.si_signo)
            forwarded.add(received.si_signo)
            continue
        returncode = _reap(pid)
        if returncode is not None:
            return ChildEnd(returncode, frozenset(forwarded))


def _reap(pid: int) -> int | None:
    """Collect every process that has ended; return the return code of `pid` if it was among them.

    As PID 1 of a container this process inherits orphans. One SIGCHLD may stand for several ends.
    """
    returncode = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return returncode
        if ended == 0:
            return returncode
        if ended == pid:
            returncode = os.waitstatus_to_exitcode(status)
