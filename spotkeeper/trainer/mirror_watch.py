"""Whether SageMaker's mirror of the checkpoint folder still does what it is for: it says nothing when it stops.

A checkpoint counts as mirrored when its manifest and every object that it names are in S3, each with its size. How long
the oldest one that is not has been waiting, is how much work the loss of the host would cost on top of the usual.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.contract.checkpoint_layout import commit_prefix, parse_manifest_key
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.contract.metrics import MIRROR_DELAY
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.side_thread import start_without_signals

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE_SECONDS: Final = 600.0
"""The mirror is asynchronous: minutes are its way, and not its end."""
LOOKS_PER_PATIENCE: Final = 10


class MirrorWatch:
    """Compares the folder with S3 while its `with` block runs, by a thread that can only fail into silence."""

    def __init__(
        self,
        folder: Path,
        uri: str,
        *,
        run_id: str,
        log: EventLog,
        environment: str | None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Take the checkpoint folder, and the `s3://…` to which SageMaker mirrors it.

        `environment` names the deployed one, whose metric tells the delay; None tells it in the log alone.
        """
        config = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=10)
        self._client: S3Client = boto3.client("s3", config=config)
        self._folder = folder
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = prefix.rstrip("/") + "/"
        self._run_id = run_id
        self._log = log
        self._environment = environment
        self._patience_seconds = patience_seconds
        self._is_behind = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spotkeeper-mirror", daemon=True)

    def __enter__(self) -> Self:
        start_without_signals(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> float:
        """Return for how many seconds the oldest checkpoint that is not in S3 has been waiting; 0: all are there.

        Raises:
            botocore.exceptions.ClientError, BotoCoreError: if S3 does not tell.
        """
        there = self._sizes_in_s3()
        late = [at for at, needed in self._checkpoints() if any(there.get(key) != size for key, size in needed.items())]
        return max(0.0, time.time() - min(late)) if late else 0.0

    def _checkpoints(self) -> Iterator[tuple[float, dict[str, int]]]:
        """Yield of each checkpoint in the folder when it was committed, and the sizes of all that it consists of."""
        for path in (self._folder / commit_prefix(self._run_id)).glob("*.json"):
            key = path.relative_to(self._folder).as_posix()
            if parse_manifest_key(key) is None:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):  # it was let go meanwhile, or is damaged
                body = path.read_bytes()
                objects = {stored["key"]: stored["bytes"] for stored in json.loads(body)["objects"]}
                yield path.stat().st_mtime, {key: len(body), **objects}

    def _sizes_in_s3(self) -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        found = [each for page in pages for each in page.get("Contents", ())]
        return {each["Key"].removeprefix(self._prefix): each["Size"] for each in found}

    def _watch(self) -> None:
        while not self._ended.wait(self._patience_seconds / LOOKS_PER_PATIENCE):
            try:
                self._tell(self.look())
            except (ClientError, BotoCoreError):
                continue  # what S3 does not tell is no reason for an alarm: the sweeper looks there, too

    def _tell(self, delay_seconds: float) -> None:
        if self._environment is not None:
            self._log.measure(MIRROR_DELAY, round(delay_seconds, 3), environment=self._environment)
        is_behind = delay_seconds > self._patience_seconds
        if is_behind != self._is_behind:
            self._is_behind = is_behind
            event = LogEvent.MIRROR_STOPPED if is_behind else LogEvent.MIRROR_RESUMED
            self._log.write(event, delay_seconds=round(delay_seconds, 1))
