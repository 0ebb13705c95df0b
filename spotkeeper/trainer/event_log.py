"""Spotkeeper's own lines among a program's output."""

import math
import sys
import time
from typing import Any

from spotkeeper.contract.embedded_metric import format_metric
from spotkeeper.contract.log_lines import LogEvent, format_line


class EventLog:
    """Writes structured lines about one attempt to standard output.

    Call it from the thread that runs the program: another one could break into a line of the program's own. A save in
    the middle of a step, which may be the last thing that is heard of the attempt, is worth that.
    """

    def __init__(self, run_id: str, epoch: int | None, *, is_silent: bool = False) -> None:
        """Write lines of this attempt; silent is the log of a process for which another one speaks."""
        self.run_id = run_id
        self.epoch = epoch
        self._is_silent = is_silent

    def write(self, event: LogEvent, **fields: Any) -> None:
        """Write one line, whole and at once."""
        self._write(
            format_line(event, run=self.run_id, epoch=self.epoch, **{key: _json(fields[key]) for key in fields})
        )

    def measure(self, metric: str, value: float, *, environment: str) -> None:
        """Write the line from which CloudWatch takes a metric of the environment."""
        now = time.time_ns() // 1_000_000
        fields = {"run": self.run_id, "epoch": self.epoch}
        self._write(format_metric(metric, value, environment=environment, at_milliseconds=now, **fields))

    def _write(self, line: str) -> None:
        if self._is_silent:
            return
        sys.stdout.flush()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _json(value: Any) -> Any:
    """Return what JSON can say: it has no infinity and no not-a-number."""
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value
