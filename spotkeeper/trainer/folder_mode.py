"""An attempt of a program that saves into a folder by itself: Hugging Face, Lightning, or anything else.

Before the program starts, the folder is what it was when its newest checkpoint was committed. While it runs, what
it completes is committed, and an interruption is passed on to it as a signal. When it has ended, what it left is
committed.
"""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP
from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_YIELDED
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.child import FORWARDED, ChildEnd
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.folder_commit import QUIET_SECONDS, FolderCommit
from spotkeeper.trainer.folder_restore import restore_folder
from spotkeeper.trainer.folder_watch import FolderWatch
from spotkeeper.trainer.imds import Imds
from spotkeeper.trainer.interruption_watch import InterruptionWatch
from spotkeeper.trainer.lingering import linger
from spotkeeper.trainer.store import StoreRefusedError
from spotkeeper.trainer.store_address import open_store


class CheckpointsUnavailableError(Exception):
    """The store did not answer when the folder was to be restored."""


class FolderMode:
    """The folder of one attempt; the program runs within its `with` block."""

    def __init__(
        self,
        folder: Path,
        *,
        uri: str,
        run_id: str,
        epoch: int | None,
        imds: Imds,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """Restore the folder.

        Raises:
            FencedError: if a newer attempt has started.
            CheckpointsUnavailableError: if the store does not answer.
            ValueError: if it refuses, if the run's checkpoints are not those of a folder, or if the folder lies in the
                store, or the store in it.
        """
        self._folder = folder.absolute()
        _refuse_overlap(self._folder, uri)
        try:
            # The framework decides how many of its own each one holds.
            checkpoints = Checkpoints(open_store(uri), run_id=run_id, keep=DEFAULT_KEEP, epoch=epoch)
            self._log = EventLog(run_id, checkpoints.epoch)
            restored = restore_folder(self._folder, checkpoints)
        except StoreRefusedError as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            raise CheckpointsUnavailableError(f"{uri}: {error}") from error
        if restored is None:
            self._log.write(LogEvent.STARTED, folder=str(folder))
        else:
            aside = {"set_aside": str(restored.set_aside)} if restored.set_aside else {}
            num_files = len(restored.stored)
            self._log.write(
                LogEvent.RESUMED,
                step=restored.step,
                manifest=checkpoints.parent,
                folder=str(folder),
                files=num_files,
                **aside,
            )
        commit = FolderCommit(
            self._folder,
            checkpoints,
            self._log,
            step=restored.step if restored else 0,
            stored=restored.stored if restored else {},
            quiet_seconds=quiet_seconds,
        )
        self._watch = FolderWatch(commit)
        self._interruptions = InterruptionWatch(imds)
        self._block = ExitStack()
        self._has_told = False

    def __enter__(self) -> Self:
        self._block.enter_context(self._interruptions)
        self._block.enter_context(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The program has ended. What it left is worth more than an early exit: only SIGKILL ends this now.
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        self._block.close()

    def reason_to_stop(self) -> str | None:
        """Return why the program is to stop now, if it is."""
        if self._watch.fenced is not None:
            return self._watch.fenced.reason
        interruption = self._interruptions.interruption
        if interruption is None:
            return None
        if not self._has_told:
            self._has_told = True
            self._log.write(LogEvent.NOTICE, kind="interruption", deadline=interruption.deadline)
        return f"EC2 takes this host away at {interruption.deadline:%H:%M:%S} UTC"

    def finish(self, end: ChildEnd, code: int) -> int:
        """Commit what the program has left, wait for a host that goes, and return the attempt's exit code.

        Raises:
            FencedError: if a newer attempt has started.
        """
        interruption = self._interruptions.interruption
        cause = "notice" if interruption else "signal" if end.forwarded else "final"
        # A program that a signal killed, or an exception ended, may have been in the middle of a file.
        was_asked = bool(end.forwarded) and 0 < end.returncode < 128
        is_done = self._watch.finish(cause, ended_by_itself=end.returncode == 0 or was_asked)
        if code == EXIT_COMPLETED and not is_done:
            # The result would exist on this host only: better to do the last stretch again.
            print("spotkeeper-exec: what the program left could not be committed", file=sys.stderr, flush=True)
            code = EXIT_YIELDED
        if code == EXIT_YIELDED and interruption is not None:
            linger(interruption, self._log)
        return code


def _refuse_overlap(folder: Path, uri: str) -> None:
    if "://" in uri:
        return
    store, folder = Path(uri).absolute().resolve(), folder.resolve()
    if store.is_relative_to(folder) or folder.is_relative_to(store):
        raise ValueError(
            f"the program's checkpoint folder {folder} and the folder of committed checkpoints {store} must lie apart: "
            "set SPOTKEEPER_URI to another folder or to s3://bucket[/prefix]"
        )
