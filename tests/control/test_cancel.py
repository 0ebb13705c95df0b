from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON
from spotkeeper.control.ports import JobStatus, UnknownRun
from spotkeeper.control.run import Run
from spotkeeper.control.submit import job_request, submit
from tests.control.fakes import NOW, MemoryBatch, MemoryLedger, memory_ports, new_run


def test_the_wish_is_recorded_and_the_job_is_stopped() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    run = cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert run.cancel_requested_at == NOW
    assert run.state is RunState.SUBMITTED, "it ends when Batch says that its job ended"
    assert batch.terminated == [("job-1", CANCEL_REASON)]


def test_a_run_without_a_job_is_closed_at_once() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run())

    run = cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert (run.state, run.closed_at) == (RunState.CANCELLED, NOW)


def test_a_job_of_others_that_bears_the_name_is_let_be() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    request = job_request(ledger.create(new_run()))
    batch.submit({**request, "containerOverrides": {"command": ["sleep", "60"], "environment": []}})

    cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert batch.terminated == []


def test_a_job_whose_reply_was_lost_is_found_and_stopped() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    batch.submit(job_request(ledger.create(new_run())))

    cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert batch.terminated == [("job-1", CANCEL_REASON)]


def test_a_run_that_has_ended_stays_as_it_ended() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ended = ledger.create(new_run(state=RunState.SUCCEEDED, job_id="job-1"))

    assert cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW) == ended
    assert batch.terminated == []


def test_cancelling_twice_keeps_the_first_time_and_stops_the_job_again() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)
    cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    run = cancel("digits-7fq2", ports=memory_ports(ledger, batch), now="2026-11-23T19:00:00+00:00")

    assert run.cancel_requested_at == NOW
    assert len(batch.terminated) == 2, "the first call may have been lost"


def test_a_run_whose_job_had_ended_is_closed_though_its_last_event_was_lost() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)
    batch.jobs["job-1"] = replace(batch.jobs["job-1"], status=JobStatus.FAILED, status_reason="a host was lost")

    run = cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert (run.state, run.closed_at) == (RunState.CANCELLED, NOW)
    assert ledger.runs["digits-7fq2"] == run


def test_a_run_that_had_completed_when_it_was_cancelled_has_succeeded() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)
    ledger.claim("digits-7fq2", "job-1", 1)
    ledger.complete("digits-7fq2", 1)
    batch.jobs["job-1"] = replace(batch.jobs["job-1"], status=JobStatus.SUCCEEDED)

    assert cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW).state is RunState.SUCCEEDED


class ObservedMeanwhile(MemoryLedger):
    """An observer closes the run between cancel's read and its write."""

    def advance(self, run: Run, **changes: Any) -> Run:
        if "closed_at" in changes:
            super().advance(run, **changes)
        return super().advance(run, **changes)


def test_an_observer_that_is_faster_than_cancel_has_closed_the_run() -> None:
    ledger, batch = ObservedMeanwhile(), MemoryBatch()
    submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)
    batch.jobs["job-1"] = replace(batch.jobs["job-1"], status=JobStatus.FAILED)

    assert cancel("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW).state is RunState.CANCELLED


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(UnknownRun, match="'nobody-1'"):
        cancel("nobody-1", ports=memory_ports(), now=NOW)
