"""Ten thousand bodies that nobody at AWS would send, through every shipped handler in batches of ten."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from lambdas.observe_job.handler import handle as observe_job
from lambdas.record_blocked_queue.handler import handle as record_blocked_queue
from lambdas.record_interruption.handler import handle as record_interruption
from lambdas.sweep_runs.handler import handle as sweep_runs
from spotkeeper.contract import metrics
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws import binding
from spotkeeper.control.condition import Commit
from spotkeeper.control.ports import Job, JobStatus
from spotkeeper.control.submit import job_request
from tests.control.fakes import (
    NOW,
    MemoryBatch,
    MemoryBudgets,
    MemoryCheckpoints,
    MemoryLedger,
    memory_ports,
    new_run,
    order_of,
)
from tests.control.recorded_events import JOB_CHANGE
from tests.lambdas.hostile_bodies import FOREIGN_INSTANCE, NOT_OURS, hostile_bodies
from tests.lambdas.invocation import CONTEXT, counted, failed, sqs

NUM_BODIES, BATCH_SIZE, SEED = 10_000, 10, 20261125
JOB_ID = JOB_CHANGE["detail"]["jobId"]
RUN_ID = "digits-7fq2"

HANDLERS = {
    "observe_job": (observe_job, rf"{RUN_ID}: unchanged: .*"),
    "record_blocked_queue": (record_blocked_queue, r"digits-7fq2: recorded: .*"),
    "record_interruption": (record_interruption, r"recorded for i-[0-9a-f]{8,17}"),
    "sweep_runs": (
        sweep_runs,
        r"on time: True, oldest round: \d+ s, outcomes: \{.*\}, reservations: \{\}, failures: \{\}, .*",
    ),
}
"""With how each begins to say that it has done what an event asks."""


class NoCommits:
    """Nothing was ever saved."""

    def commits(self, run_id: str) -> tuple[Commit, ...]:
        assert run_id == RUN_ID
        return ()


@dataclass
class World:
    """A running run whose job Batch knows; the ledger says all there is to say of it."""

    ledger: MemoryLedger
    budgets: MemoryBudgets
    batch: MemoryBatch

    def facts(self) -> tuple[Any, ...]:
        money = self.budgets
        return deepcopy(
            (
                self.ledger.runs,
                self.ledger.attempt_items,
                self.ledger.slots,
                money.budgets,
                money.reserved,
                money.turned,
            )
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    ledger, batch = MemoryLedger(), MemoryBatch()
    run = ledger.create(new_run(RUN_ID, state=RunState.RUNNING, job_id=JOB_ID, claimed_job_id=JOB_ID, epoch=1))
    batch.jobs[JOB_ID] = Job(
        job_id=JOB_ID, name=f"{RUN_ID}-1", status=JobStatus.RUNNING, order=order_of(job_request(run))
    )
    budgets = MemoryBudgets(ledger)
    ports = memory_ports(ledger, batch, MemoryCheckpoints(), budgets=budgets)
    bindings = {
        "ledger": ledger,
        "batch": batch,
        "ports": ports,
        "now": NOW,
        "environment": "dev",
        "commits": NoCommits(),
    }
    for name, bound in bindings.items():
        monkeypatch.setattr(binding, name, lambda bound=bound: bound)
    return World(ledger, budgets, batch)


@contextmanager
def written_by(service: str) -> Iterator[tuple[io.TextIOWrapper, io.StringIO]]:
    """Take what the service logs, in UTF-8 as Lambda does, and what it prints."""
    log, printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    handler = Logger(service=service).registered_handler
    assert hasattr(handler, "stream")
    # Not setStream, which flushes what another test has left behind, closed.
    before, handler.stream = handler.stream, log
    try:
        with redirect_stdout(printed):
            yield log, printed
    finally:
        handler.stream = before


@pytest.mark.parametrize("service", HANDLERS)
def test_of_ten_thousand_hostile_bodies_none_stops_a_batch_none_is_dropped_and_none_moves_a_run(
    service: str, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    handle, done = HANDLERS[service]
    before = world.facts()
    num_ignored = num_failed = num_done = 0
    bodies = hostile_bodies(SEED, NUM_BODIES)

    while batch := list(islice(bodies, BATCH_SIZE)):
        with written_by(service) as (log, printed):
            left = failed(handle(sqs(*batch), CONTEXT))

        log.seek(0)
        lines = [json.loads(line) for line in log]
        counts = counted(printed.getvalue())
        assert sorted(line["message_id"] for line in lines) == sorted(f"message-{i + 1}" for i in range(len(batch)))
        assert [line["message_id"] for line in lines if line["message"].startswith("left in the queue: ")] == left
        handled = [line for line in lines if re.fullmatch(done, line["message"], re.DOTALL)]
        assert (counts[metrics.EVENTS_RECEIVED], counts.get(metrics.EVENTS_FAILED, 0)) == (len(batch), len(left))
        assert len(batch) == len(left) + len(handled) + counts.get(metrics.EVENTS_IGNORED, 0)
        num_failed += len(left)
        num_done += len(handled)
        num_ignored += int(counts.get(metrics.EVENTS_IGNORED, 0))

    assert num_failed + num_done + num_ignored == NUM_BODIES
    # Each way is taken often, or the bodies test nothing.
    assert min(num_failed, num_ignored) > 1000
    assert num_done > 100
    assert world.facts() == before
    assert (world.batch.requests, world.batch.terminated, world.batch.withdrawn) == ([], [], [])
    assert FOREIGN_INSTANCE not in world.ledger.interruptions
    assert {run_id for run_id, _, _ in world.ledger.events} <= {RUN_ID}
    assert {event_id for _, _, event_id in world.ledger.events}.isdisjoint(NOT_OURS)
    # A log line that cannot be written is reported there, and nowhere else.
    assert capfd.readouterr().err == ""
