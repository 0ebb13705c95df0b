"""What the attempts of a run wrote, line by line, as they write it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from emulation.batch.batch_api import BatchService
from emulation.demo.run_jobs import RunJobs
from emulation.ec2.market import Instance
from spotkeeper.contract.log_lines import parse_line

_POLL_SECONDS: Final = 0.1


class AttemptLog:
    """The output of one attempt, as far as it has been read."""

    def __init__(self, submission: int, number: int, instance: Instance, path: Path) -> None:
        self.submission = submission
        self.number = number
        """Batch's number of the attempt, from 1."""
        self.instance = instance
        """Where it runs."""
        self.lines: list[str] = []
        self.read_at: list[float] = []
        """When each of them was read, in seconds since 1970."""
        self._path = path
        self._position = 0

    @property
    def name(self) -> str:
        """`2.1`: the first attempt of the second submission."""
        return f"{self.submission}.{self.number}"

    def read_new(self) -> list[str]:
        """Read the whole lines that have been added since the last time."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._position += len(whole + newline)
        new = whole.decode(errors="replace").split("\n") if newline else []
        self.lines += new
        self.read_at += [time.time()] * len(new)
        return new

    def told_lines(self) -> tuple[dict[str, Any], ...]:
        """Return the structured lines with `at` of each, as `policy.attempt_use` takes them."""
        parsed = [(parse_line(line), at) for line, at in zip(self.lines, self.read_at, strict=True)]
        return tuple({**event, "at": at} for event, at in parsed if event is not None)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the structured lines of these events, or all of them."""
        parsed = [event for line in self.lines if (event := parse_line(line)) is not None]
        return [event for event in parsed if not names or event["event"] in names]


class AttemptLogs(threading.Thread):
    """Follows the log files of a run's attempts, of whichever job, and tells each new line, in order."""

    def __init__(self, batch: BatchService, jobs: RunJobs, on_line: Callable[[AttemptLog, str], None]) -> None:
        super().__init__(name="attempt-logs", daemon=True)
        self.attempts: dict[tuple[int, int], AttemptLog] = {}
        """By submission and number."""
        self.failure: Exception | None = None
        """What `on_line` raised; nothing was told after it."""
        self._batch = batch
        self._jobs = jobs
        self._on_line = on_line
        self._is_ending = threading.Event()

    def run(self) -> None:
        """Tell lines until `end`."""
        try:
            while not self._is_ending.wait(_POLL_SECONDS):
                self._tell()
            self._tell()
        except Exception as error:  # noqa: BLE001  the thread's outermost loop; `end` raises it
            self.failure = error

    def end(self) -> None:
        """Tell what is left, and stop.

        Raises:
            Exception: what `on_line` raised, if it did.
        """
        self._is_ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _tell(self) -> None:
        for job in self._jobs.all:
            for attempt in self._batch.attempts(job.job_id):
                key = (job.submission, attempt.number)
                if key not in self.attempts:
                    self.attempts[key] = AttemptLog(*key, attempt.instance, attempt.log_path)
                log = self.attempts[key]
                for line in log.read_new():
                    self._on_line(log, line)
