"""A user of the emulated environment: submits programs and waits for what becomes of them."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

from typer.testing import CliRunner

from emulation.cloud import Cloud
from emulation.local_endpoint import announce
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.sweep import sweep
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection, LocalEndpoint, connect
from spotkeeper.ops.plan import Plan, Request
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.submission import prepare, submit
from spotkeeper.ops.training_place import BATCH
from spotkeeper.policy.placement import Market

T = TypeVar("T")


def now() -> str:
    return later(0)


def later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def eventually(
    read: Callable[[], T], accept: Callable[[T], object], seconds: float = 120, *, pause_seconds: float = 0.2
) -> T:
    """Read until what is read is accepted; fail with what was read last."""
    give_up = time.monotonic() + seconds
    while not accept(last := read()):
        assert time.monotonic() < give_up, f"after {seconds} s it is still {last!r}"
        time.sleep(pause_seconds)  # between two polls; the deadline is above
    return last


def isolating(connection: Connection) -> Connection:
    """Return the connection to an environment as it would be with `is_isolated`."""
    training = connection.descriptor.training
    assert training is not None
    isolated = replace(connection.descriptor, training=replace(training, is_isolated=True))
    return replace(connection, descriptor=isolated)


class User:
    def __init__(self, cloud: Cloud, source: Path) -> None:
        self.cloud = cloud
        self.connection = connect(
            "dev", local=LocalEndpoint(endpoint_url=cloud.endpoint_url, region=cloud.region, environment="dev")
        )
        self._source = source
        self._num_runs = 0

    def submit(self, program: str, *, is_isolated: bool = False, **options: Any) -> Run:
        """Submit a Python program; see `plans`."""
        connection = isolating(self.connection) if is_isolated else self.connection
        plan = self.plans(program, connection=connection, **options)
        return submit(plan, connection=connection, now=now(), pause=time.sleep)

    def plans(
        self,
        program: str,
        *,
        connection: Connection | None = None,
        spending: Spending | None = None,
        attempt_seconds: int | None = None,
        checkpoint_folder: str | None = None,
        service: str = BATCH,
        num_nodes: int = 1,
    ) -> Plan:
        """Return what would be sent for a Python program."""
        self._num_runs += 1
        self._source.mkdir(exist_ok=True)
        (self._source / "train.py").write_text(dedent(program))
        return prepare(
            Request(
                command=("python", "train.py"),
                progress_seconds=1,
                spending=spending or Spending(),
                attempt_seconds=attempt_seconds,
                checkpoint_folder=checkpoint_folder,
                service=service,
                num_nodes=num_nodes,
            ),
            connection=connection or self.connection,
            source_directory=self._source,
            suffix=f"{self._num_runs:04x}",
            now=now(),
        )

    def run(self, run: Run) -> Run:
        found = self.connection.ledger.get(run.run_id)
        assert found is not None
        return found

    def attempts(self, run: Run) -> tuple[Attempt, ...]:
        return self.connection.ledger.attempts(run.run_id)

    def num_commits(self, run: Run) -> int:
        """Return how many checkpoints of the run are there."""
        bucket = self.connection.descriptor.checkpoint_bucket
        listed = self.connection.s3.list_objects_v2(Bucket=bucket, Prefix=f"commit/{run.run_id}/")
        return len(listed.get("Contents", []))

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

    def falls_back(self, run: Run) -> Run:
        """Wait until the run has no spot, let its wait be over if there is one, and wait until it runs on on-demand."""
        short = eventually(
            lambda: self.run(run), lambda found: found.state is RunState.WAITING or found.market == Market.ON_DEMAND
        )
        if short.market != Market.ON_DEMAND:
            self.waits_no_longer(run)
        return eventually(
            lambda: self.run(run), lambda found: (found.market, found.state) == (Market.ON_DEMAND, RunState.RUNNING)
        )

    def waits_no_longer(self, run: Run) -> Run:
        """Sweep as when the run's wait is over, until it has been placed; the product's waits are real time.

        The environment's own sweeper may be at the same run at the same moment: then one of the two gives way.
        """

        def swept() -> Run:
            found = self.run(run)
            if found.state is RunState.WAITING:
                self.sweep(at=found.wait_until or now())
            return self.run(run)

        return eventually(swept, lambda found: found.state is not RunState.WAITING)

    def types(self, *words: str) -> str:
        """Type a command of `spotkeeper`; return what it prints."""
        environ = {"XDG_STATE_HOME": str(self._source.parent / "state")}
        where = {"endpoint_url": self.cloud.endpoint_url, "region": self.cloud.region, "environment": "dev"}
        with announce(**where, environ=environ):
            result = CliRunner().invoke(app, ["--local", *words], env=environ)
        assert result.exit_code == 0, result.output
        return result.output

    def sweep(self, *, at: str) -> None:
        """Sweep as the sweeper does, at another time."""
        done = sweep(ports=self.connection.ports, clock=lambda: at, has_time=lambda: True)
        assert done.failures == {}

    def output(self, run: Run) -> str:
        """Return what all attempts of the run's job have written so far."""
        assert run.job_id is not None
        return self.output_of(run.job_id)

    def output_of(self, job_id: str) -> str:
        logs = [attempt.log_path for attempt in self.cloud.batch.attempts(job_id)]
        return "".join(log.read_text() for log in logs if log.exists())
