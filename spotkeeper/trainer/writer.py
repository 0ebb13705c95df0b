"""The writer process: makes durable what the training process has put into the arena, at low priority.

    python -m spotkeeper.trainer.writer SETTINGS ARENA SOCKET        (JSON and two inherited descriptors)

A process of its own, so that neither checksums nor S3 nor the commit protocol ever hold the interpreter that trains.
It imports no torch. Its parent sends, as JSON:

    {"step": 1200, "cause": "periodic", "bytes": 4096, "state": {…}, "rank": 0, "has_others": false}
                                                                         then, until all bytes have come,
    {"chunk": 4096}                                                      that many bytes stand in the arena
and is told
    {"taken": 4096}      these bytes have been read; the arena may be filled again
    {"committed": key}   or {"failed": reason} or {"fenced": reason}

Where several processes train together, the writer of another rank than 0 does not commit; it says {"written": object}.
That of rank 0 says so too, before it commits, and is told {"parts": […]} of the others, or {"failed": reason}.

When its parent dies it finishes the checkpoint that it has whole, if the run still belongs to that attempt, and ends.
"""

import json
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from spotkeeper.contract.checkpoint_layout import StoredObject
from spotkeeper.trainer.checkpoint import Checkpoints, FencedError, RankPart
from spotkeeper.trainer.store_address import open_store

NICE: Final = 10
"""Training goes first, but a checkpoint that waits for an idle processor would be durable too late."""


class ParentGoneError(Exception):
    """The training process ended before it had sent the whole checkpoint."""


def main() -> None:
    """Serve the parent until it closes the socket."""
    settings, arena, socket = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # The parent decides when to stop; it is told of every signal, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICE)
    Writer(settings, arena, Connection(socket)).serve()


class Writer:
    """Carries out one save after the other."""

    def __init__(self, settings: dict[str, Any], arena: int, parent: Connection) -> None:
        self._settings = settings
        self._arena = arena
        self._parent = parent
        self._checkpoints: Checkpoints | None = None
        self._mapping: mmap.mmap | bytes = b""

    def serve(self) -> None:
        """Answer every request until the parent is gone."""
        while True:
            try:
                reply = self._save(self._receive())
            except ParentGoneError:
                return
            with suppress(OSError):  # it died while its checkpoint was being written: that is committed all the same
                self._send(reply)

    def _save(self, request: dict[str, Any]) -> dict[str, Any]:
        chunks = self._chunks(request["bytes"])
        try:
            # Opened late: a store that does not answer now may do so for the next checkpoint.
            self._checkpoints = self._checkpoints or self._open()
            step, rank = request["step"], request["rank"]
            if rank > 0:
                self._checkpoints.sweep_uncommitted()  # what became of those before is known by now
            stored = self._checkpoints.write_data(step=step, chunks=chunks, total_bytes=request["bytes"], rank=rank)
            if rank > 0:
                return {"written": stored}
            parts = self._ask_for_parts(stored) if request["has_others"] else []
            key = self._checkpoints.commit(
                step=step, cause=request["cause"], stored=stored, state=request["state"], parts=parts
            )
        except (FencedError, OSError) as error:
            for _ in chunks:
                pass  # the parent goes on sending until it has sent all
            if isinstance(error, FencedError):
                return {"fenced": error.reason}
            return {"failed": str(error) or type(error).__name__}
        return {"committed": key}

    def _ask_for_parts(self, stored: StoredObject) -> list[RankPart]:
        self._send({"written": stored})
        answer = self._receive()
        if "failed" in answer:
            raise OSError(answer["failed"])
        return [RankPart(**part) for part in answer["parts"]]

    def _open(self) -> Checkpoints:
        settings = self._settings
        store = open_store(settings["checkpoint_uri"])
        checkpoints = Checkpoints(store, run_id=settings["run_id"], keep=settings["keep"], epoch=settings["epoch"])
        checkpoints.continues(settings["parent"])
        return checkpoints

    def _chunks(self, total_bytes: int) -> Iterator[memoryview]:
        remaining = total_bytes
        while remaining:
            count = self._receive()["chunk"]
            if len(self._mapping) < count:
                # The arena has grown; the mapping of before goes with the last view of it.
                self._mapping = mmap.mmap(self._arena, os.fstat(self._arena).st_size, prot=mmap.PROT_READ)
            yield memoryview(self._mapping)[:count]
            remaining -= count
            with suppress(OSError):
                self._send({"taken": count})

    def _receive(self) -> dict[str, Any]:
        try:
            request: dict[str, Any] = json.loads(self._parent.recv_bytes())
        except (EOFError, OSError) as error:
            raise ParentGoneError from error
        return request

    def _send(self, reply: dict[str, Any]) -> None:
        self._parent.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
