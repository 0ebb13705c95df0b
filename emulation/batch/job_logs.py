"""Output of jobs, on its way to CloudWatch Logs as the awslogs driver sends it: in small batches, by one thread."""

import contextlib
import logging
import queue
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

DEFAULT_GROUP: Final = "/aws/batch/job"

_LINGER_SECONDS: Final = 0.2
"""How long a line waits for others to be sent along with it."""
_LONGEST_LINE: Final = 250_000
"""CloudWatch Logs takes events of up to 256 KiB, 26 bytes of which are its own."""
_BATCH_LINES: Final = 500

_log = logging.getLogger(__name__)

_Line = tuple[str, str, int, str]


class LogShipper:
    """Sends lines to CloudWatch Logs.

    Args:
        client: CloudWatch Logs.
    """

    def __init__(self, client: "CloudWatchLogsClient") -> None:
        self.failures: list[Exception] = []
        """What CloudWatch Logs refused. The lines are in the attempts' log files all the same."""
        self._client = client
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._streams: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._run, name="emulation-logs", daemon=True)
        self._thread.start()

    def send(self, group: str, stream: str, at_ms: int, line: str) -> None:
        """Send a line, soon. An empty one becomes a space, as CloudWatch Logs takes no empty messages."""
        self._lines.put((group, stream, at_ms, line[:_LONGEST_LINE] or " "))

    def stop(self) -> None:
        """Send what is waiting, then end."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batches: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
            is_open = self._collect(batches)
            for (group, stream), lines in batches.items():
                try:
                    self._put(group, stream, lines)
                except (ClientError, BotoCoreError) as error:
                    self.failures.append(error)
                    _log.error("%d lines did not reach log stream %s", len(lines), stream, exc_info=error)

    def _collect(self, batches: defaultdict[tuple[str, str], list[tuple[int, str]]]) -> bool:
        """Wait for a line and those that follow it at once; say whether more may come."""
        send_at: float | None = None
        for _ in range(_BATCH_LINES):
            try:
                line = self._lines.get(timeout=None if send_at is None else max(0.0, send_at - time.monotonic()))
            except queue.Empty:
                return True
            if line is None:
                return False
            group, stream, at_ms, text = line
            batches[group, stream].append((at_ms, text))
            send_at = send_at or time.monotonic() + _LINGER_SECONDS
        return True

    def _put(self, group: str, stream: str, lines: list[tuple[int, str]]) -> None:
        if (group, stream) not in self._streams:
            self._create(group, stream)
        self._client.put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": at_ms, "message": text} for at_ms, text in lines],
        )

    def _create(self, group: str, stream: str) -> None:
        exists = self._client.exceptions.ResourceAlreadyExistsException
        with contextlib.suppress(exists):
            self._client.create_log_group(logGroupName=group)
        with contextlib.suppress(exists):
            self._client.create_log_stream(logGroupName=group, logStreamName=stream)
        self._streams.add((group, stream))
