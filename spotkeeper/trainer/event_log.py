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
        self._write(self._line(event, fields))

    def write_measured(self, event: LogEvent, metric: str, value: float, *, environment: str, **fields: Any) -> None:
        """Write one line, and behind it that from which CloudWatch takes a metric of the environment.

        What a program, one of its threads or another process left without a newline comes before the first of them. We
        read that all the same, but CloudWatch takes a metric from whole lines alone: so nothing may come between them.
        """
        now = time.time_ns() // 1_000_000
        told = {"run": self.run_id, "epoch": self.epoch}
        measured = format_metric(metric, value, environment=environment, at_milliseconds=now, **told)
        self._write(f"{self._line(event, fields)}\n{measured}")

    def _line(self, event: LogEvent, fields: dict[str, Any]) -> str:
        return format_line(event, run=self.run_id, epoch=self.epoch, **{key: _json(fields[key]) for key in fields})

    def _write(self, text: str) -> None:
        if self._is_silent:
            return
        sys.stdout.flush()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _json(value: Any) -> Any:
    """Return what JSON can say: it has no infinity and no not-a-number."""
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value
