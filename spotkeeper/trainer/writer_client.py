"""The training process's side of the writer process."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from spotkeeper.trainer.arena import Arena
from spotkeeper.trainer.checkpoint import RankPart
from spotkeeper.trainer.rank_store import RankSilentError
from spotkeeper.trainer.snapshot import Snapshot, VoidError

STARTS: Final = 2
"""How often one save is sent, to a new writer if the one before has died (killed for memory, for example)."""
END_SECONDS: Final = 10.0
"""How long a writer may take to end once nobody speaks to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterSettings:
    """Which checkpoints it writes."""

    checkpoint_uri: str
    run_id: str
    keep: int
    epoch: int
    parent: str | None
    """Key of the manifest that the attempt resumed from."""


class WriterClient:
    """Starts the writer when it is needed, again if it dies. To be called by one thread at a time."""

    def __init__(self, settings: WriterSettings, arena: Arena) -> None:
        self._settings = settings
        self._arena = arena
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start it, so that the first save need not wait for that.

        Raises:
            OSError: if there is no room for a process.
        """
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", __name__.replace("writer_client", "writer")]
            settings = json.dumps(asdict(self._settings))
            self._process = subprocess.Popen(
                [*command, settings, str(self._arena.descriptor), str(its.fileno())],
                pass_fds=(self._arena.descriptor, its.fileno()),
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())

    def save(
        self,
        snapshot: Snapshot,
        *,
        step: int,
        cause: str,
        rank: int = 0,
        collect_parts: Callable[[], Sequence[RankPart]] | None = None,
    ) -> dict[str, Any]:
        """Have the snapshot written, and return the writer's last word on it.

        `collect_parts` is called, in rank 0 of several, before the commit; an `OSError` of it ends this save.

        Raises:
            OSError: if the writer dies of it again and again, or cannot be started.
            VoidError: if the state changed while it was sent in chunks.
        """
        for _ in range(STARTS):
            try:
                if self._connection is None:
                    self.start()
                request = {"step": step, "cause": cause, "rank": rank, "has_others": collect_parts is not None}
                return self._exchange(snapshot, request, collect_parts)
            except (EOFError, ConnectionError):
                self.close()
            except VoidError:
                self.close()  # it waits for a chunk that does not come
                raise
        raise OSError(
            f"the process that writes checkpoints died {STARTS} times of this one: killed for want of memory? "
            "What it said stands above"
        )

    def close(self) -> None:
        """End the writer, which finishes what it has whole."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            if self._process.returncode is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _exchange(
        self,
        snapshot: Snapshot,
        request: dict[str, Any],
        collect_parts: Callable[[], Sequence[RankPart]] | None,
    ) -> dict[str, Any]:
        self._send({**request, "bytes": snapshot.total_bytes, "state": snapshot.tree})
        if not snapshot.is_chunked:
            self._send({"chunk": snapshot.total_bytes})
        else:
            for count in snapshot.chunks():
                self._send({"chunk": count})
                reply = self._receive()
                assert "taken" in reply
        while "taken" in (reply := self._receive()):
            pass
        if "written" in reply and collect_parts is not None:
            try:
                self._send({"parts": [asdict(part) for part in collect_parts()]})
            except RankSilentError as error:
                self._send({"failed": str(error)})
            return self._receive()
        return reply

    def _send(self, message: dict[str, Any]) -> None:
        assert self._connection is not None
        self._connection.send_bytes(json.dumps(message, separators=(",", ":")).encode())

    def _receive(self) -> dict[str, Any]:
        assert self._connection is not None
        reply: dict[str, Any] = json.loads(self._connection.recv_bytes())
        return reply
