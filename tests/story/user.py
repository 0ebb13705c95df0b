"""A user of the emulated environment: submits programs and waits for what becomes of them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import TypeVar

from emulation.cloud import Cloud
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.sweep import sweep
from spotkeeper.ops.connection import LocalEndpoint, connect
from spotkeeper.ops.plan import Request
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.submission import prepare, submit

T = TypeVar("T")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def eventually(read: Callable[[], T], accept: Callable[[T], object], seconds: float = 40) -> T:
    """Read until what is read is accepted; fail with what was read last."""
    give_up = time.monotonic() + seconds
    while not accept(last := read()):
        assert time.monotonic() < give_up, f"after {seconds} s it is still {last!r}"
        time.sleep(0.05)  # between two polls; the deadline is above
    return last


class User:
    def __init__(self, cloud: Cloud, source: Path) -> None:
        self.cloud = cloud
        self.connection = connect(
            "dev", local=LocalEndpoint(endpoint_url=cloud.endpoint_url, region=cloud.region, environment="dev")
        )
        self._source = source
        self._num_runs = 0

    def submit(self, program: str, *, spending: Spending | None = None) -> Run:
        """Submit a Python program."""
        self._num_runs += 1
        self._source.mkdir(exist_ok=True)
        (self._source / "train.py").write_text(dedent(program))
        plan = prepare(
            Request(command=("python", "train.py"), progress_seconds=1, spending=spending or Spending()),
            connection=self.connection,
            source_directory=self._source,
            suffix=f"{self._num_runs:04x}",
            now=now(),
        )
        return submit(plan, connection=self.connection, now=now(), pause=time.sleep)

    def run(self, run: Run) -> Run:
        found = self.connection.ledger.get(run.run_id)
        assert found is not None
        return found

    def attempts(self, run: Run) -> tuple[Attempt, ...]:
        return self.connection.ledger.attempts(run.run_id)

    def ended(self, run: Run) -> Run:
        """Wait until the ledger says that the run has ended."""
        return eventually(lambda: self.run(run), lambda found: found.is_closed)

    def claimed(self, run: Run, epoch: int = 1) -> str:
        """Wait until an attempt has claimed the epoch and said where it runs; return its instance."""
        attempts = eventually(
            lambda: [attempt for attempt in self.attempts(run) if attempt.epoch == epoch and attempt.instance_id],
            bool,
        )
        instance_id = attempts[0].instance_id
        assert instance_id is not None
        return instance_id

    def sweep(self, *, at: str) -> None:
        """Sweep as the sweeper does, at another time."""
        done = sweep(ports=self.connection.ports, clock=lambda: at, has_time=lambda: True)
        assert done.failures == {}

    def output(self, run: Run) -> str:
        """Return what all attempts have written so far."""
        assert run.job_id is not None
        logs = [attempt.log_path for attempt in self.cloud.batch.attempts(run.job_id)]
        return "".join(log.read_text() for log in logs if log.exists())
