"""SageMaker's mirror of a checkpoint folder: late, in no order, and without a word when it stops.

What it promises is little: files that are in the folder are copied to S3 in the background, and all of S3 is copied
into the folder before the containers of the next period start. Files that are removed from the folder stay in S3.
"""

import logging
import os
import threading
from pathlib import Path
from random import Random
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from emulation.sagemaker.node import download, split_uri

LEFTOVER: Final = ".sagemaker-uploading"
"""Ends the name of a file that was on its way when its host was lost.
docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html"""
LOOK_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Mirror:
    """One node's mirror, from `start` until `cut_off` or `finish`.

    Args:
        folder: The checkpoint folder.
        uri: Where it is mirrored to.
        s3: A client of S3.
        delay_seconds: Real seconds that a file waits at most.
        random: Draws how long each file waits, and thereby the order.
        is_stopped: Asked before every copy: while it is set, nothing is copied and nobody is told.
    """

    def __init__(
        self, folder: Path, uri: str, *, s3: Any, delay_seconds: float, random: Random, is_stopped: threading.Event
    ) -> None:
        self.failures: list[Exception] = []
        self._folder = folder
        self._bucket, self._prefix = split_uri(uri)
        self._s3 = s3
        self._delay_looks = max(1, round(delay_seconds / LOOK_SECONDS))
        self._random = random
        self._is_stopped = is_stopped
        self._copied: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, int] = {}
        """Looks that a file still waits."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-mirror", daemon=True)

    def restore(self) -> None:
        """Copy S3 into the folder.

        Raises:
            botocore.exceptions.ClientError: if S3 refuses.
        """
        download(self._s3, self._bucket, self._prefix, self._folder)
        self._copied = self._look()

    def start(self) -> None:
        """Copy in the background from now on."""
        self._thread.start()

    def cut_off(self) -> None:
        """End as when the host is lost: what is waiting never arrives, and one file arrives as a leftover."""
        self._end()
        late = self._changed()
        if late and not self._is_stopped.is_set():
            name = self._random.choice(late)
            body = (self._folder / name).read_bytes()
            self._s3.put_object(Bucket=self._bucket, Key=self._key(name) + LEFTOVER, Body=body[: len(body) // 2])

    def finish(self) -> None:
        """Copy what is left, as SageMaker does when the containers have ended by themselves, and end."""
        self._end()
        if not self._is_stopped.is_set():
            for name in self._changed():
                self._copy(name)

    def abandon(self) -> None:
        """End, and leave everything as it is."""
        self._end()

    def _end(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self._is_stopped.is_set():
                continue
            try:
                for name in self._changed():
                    looks = self._waiting.setdefault(name, self._random.randint(1, self._delay_looks))
                    if looks <= 1:
                        self._copy(name)
                    else:
                        self._waiting[name] = looks - 1
            except (ClientError, BotoCoreError, OSError) as error:
                self.failures.append(error)
                _log.error("the mirror of %s failed", self._folder, exc_info=error)

    def _copy(self, name: str) -> None:
        seen = self._look().get(name)
        if seen is not None:
            try:
                body = (self._folder / name).read_bytes()
            except FileNotFoundError:
                return  # the program has removed it meanwhile
            self._s3.put_object(Bucket=self._bucket, Key=self._key(name), Body=body)
            self._copied[name] = seen
        self._waiting.pop(name, None)

    def _changed(self) -> list[str]:
        return sorted(name for name, seen in self._look().items() if self._copied.get(name) != seen)

    def _look(self) -> dict[str, tuple[int, int]]:
        seen = {}
        # Not rglob, which raises when the program removes a folder between its name being read and its being entered.
        for parent, _, names in os.walk(self._folder):
            for path in (Path(parent, name) for name in names):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                seen[path.relative_to(self._folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return seen

    def _key(self, name: str) -> str:
        return f"{self._prefix.rstrip('/')}/{name}".lstrip("/")
