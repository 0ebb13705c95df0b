import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON
from spotkeeper.control.ports import UnknownRun
from spotkeeper.control.submit import job_request, submit
from tests.control.fakes import NOW, MemoryBatch, MemoryLedger, new_run


def test_the_wish_is_recorded_and_the_job_is_stopped() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ledger=ledger, batch=batch, now=NOW)

    run = cancel("digits-7fq2", ledger=ledger, batch=batch, now=NOW)

    assert run.cancel_requested_at == NOW
    assert run.state is RunState.SUBMITTED, "it ends when Batch says that its job ended"
    assert batch.terminated == [("job-1", CANCEL_REASON)]


def test_a_run_without_a_job_is_closed_at_once() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run())

    run = cancel("digits-7fq2", ledger=ledger, batch=batch, now=NOW)

    assert (run.state, run.closed_at) == (RunState.CANCELLED, NOW)


def test_a_job_whose_reply_was_lost_is_found_and_stopped() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    batch.submit(job_request(ledger.create(new_run())))

    cancel("digits-7fq2", ledger=ledger, batch=batch, now=NOW)

    assert batch.terminated == [("job-1", CANCEL_REASON)]


def test_a_run_that_has_ended_stays_as_it_ended() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ended = ledger.create(new_run(state=RunState.SUCCEEDED, job_id="job-1"))

    assert cancel("digits-7fq2", ledger=ledger, batch=batch, now=NOW) == ended
    assert batch.terminated == []


def test_cancelling_twice_keeps_the_first_time_and_stops_the_job_again() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    submit(new_run(), ledger=ledger, batch=batch, now=NOW)
    cancel("digits-7fq2", ledger=ledger, batch=batch, now=NOW)

    run = cancel("digits-7fq2", ledger=ledger, batch=batch, now="2026-11-23T19:00:00+00:00")

    assert run.cancel_requested_at == NOW
    assert len(batch.terminated) == 2, "the first call may have been lost"


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(UnknownRun, match="'nobody-1'"):
        cancel("nobody-1", ledger=MemoryLedger(), batch=MemoryBatch(), now=NOW)
