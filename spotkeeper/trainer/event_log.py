"""Spotkeeper's own lines among a program's output."""

import math
import sys
import time
from typing import Any

from spotkeeper.contract.embedded_metric import format_metric
from spotkeeper.contract.log_lines import LogEvent, format_line


class EventLog:
    """Writes structured lines about one attempt to standard output.

    Call it from the thread that runs the program: another one could break into a line of the program's own.
    """

    def __init__(self, run_id: str, epoch: int | None) -> None:
        self.run_id = run_id
        self.epoch = epoch

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
