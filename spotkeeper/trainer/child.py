"""The program as a child of `spotkeeper-exec`: signals are passed on, and what it leaves behind is reaped.

The signals stay blocked and are taken one by one with sigtimedwait, so that nothing happens inside a handler
and none is lost between starting the child and waiting for it.

Only the direct child is signalled: workers that load data must outlive the save of the process that uses them.
When that child was a shell that a signal ended, the training under it is an orphan; this process inherits
it (as PID 1, or as the subreaper that it makes itself), passes the signal on to it, and waits for it.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORWARDED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
WAITED: Final = FORWARDED | {signal.SIGCHLD}
SENT_BY_KERNEL: Final = 0x80
"""SI_KERNEL of sigaction(2): Ctrl-C at a terminal, which the child gets by itself."""
SET_CHILD_SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
ORPHAN_SECONDS: Final = 120.0
"""How long orphans may take to save and end; a container is stopped by force long before."""


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How the program ended."""

    returncode: int
    """Its exit code, or the negative number of the signal that killed it."""
    forwarded: frozenset[int]
    """Numbers of the signals that it was sent."""


def run_child(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    reason_to_stop: Callable[[], str | None] = lambda: None,
    stop_signal: int = signal.SIGTERM,
    ask_at: float | None = None,
) -> ChildEnd:
    """Start the program, without a shell, and wait for its end.

    It is sent `stop_signal`, as if that had been received, once there is a `reason_to_stop`. That is asked after every
    signal, SIGCHLD included, and at `ask_at`, a time of `time.monotonic` from which on there is a reason.

    Raises:
        ValueError: if there is no such program, or it may not be run.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    try:
        # The child gets the default handlers and the mask of before.
        pid = os.posix_spawnp(command[0], list(command), dict(environ), setsigmask=before, setsigdef=FORWARDED)
        return _wait(pid, reason_to_stop, signal.Signals(stop_signal), ask_at)
    except (FileNotFoundError, PermissionError) as error:
        raise ValueError(f"the program {command[0]!r} cannot be started: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(
    pid: int, reason_to_stop: Callable[[], str | None], stop_signal: signal.Signals, ask_at: float | None
) -> ChildEnd:
    forwarded: set[int] = set()
    while (returncode := _reap(pid)) is None:
        is_told = not forwarded.isdisjoint({signal.SIGTERM, stop_signal})
        if not is_told and (reason := reason_to_stop()):
            print(
                f"spotkeeper-exec: {reason}: {stop_signal.name} to the program now, so that it saves and another "
                "attempt goes on",
                file=sys.stderr,
                flush=True,
            )
            os.kill(pid, stop_signal)
            forwarded.add(stop_signal)
            continue
        received = _next_signal(None if is_told else ask_at)
        if received is not None and received.si_signo != signal.SIGCHLD:
            if received.si_code != SENT_BY_KERNEL:
                os.kill(pid, received.si_signo)
            forwarded.add(received.si_signo)
    if forwarded:
        _end_orphans(min(forwarded, key=lambda number: number != signal.SIGTERM))
    return ChildEnd(returncode, frozenset(forwarded))


def _next_signal(give_up_at: float | None) -> signal.struct_siginfo | None:
    """Return the next signal, or None when it is time to give up waiting."""
    if give_up_at is None:
        return signal.sigwaitinfo(WAITED)
    return signal.sigtimedwait(WAITED, max(0.0, give_up_at - time.monotonic()))


def _end_orphans(number: int) -> None:
    """Pass the signal on to each process that its parent left to this one, and wait until there is none."""
    give_up_at = time.monotonic() + ORPHAN_SECONDS
    told: set[int] = set()
    while orphans := _children():
        for pid in orphans - told:
            os.kill(pid, number)
        told |= orphans
        received = _next_signal(give_up_at)
        if received is None:
            print(f"spotkeeper-exec: processes {sorted(orphans)} do not end; leaves them", file=sys.stderr, flush=True)
            return
        if received.si_signo != signal.SIGCHLD:
            number, told = received.si_signo, set()


def _children() -> set[int]:
    """Return the living children of this process, after collecting those that have ended."""
    _reap(0)
    children = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # "pid (name) state parent …", and the name may hold anything
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                children.add(int(stat.parent.name))
    return children


def _reap(pid: int) -> int | None:
    """Collect every process that has ended; return the return code of `pid` if it was among them.

    One SIGCHLD may stand for several ends.
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
