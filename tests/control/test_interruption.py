from spotkeeper.control import blocked_queue, interruption
from spotkeeper.control.events import InstanceNotice, QueueBlocked
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Job, JobStatus
from spotkeeper.control.run import Interruption
from spotkeeper.control.submit import job_request
from tests.control.fakes import MemoryBatch, MemoryLedger, new_run, order_of

WARNED = InstanceNotice(at="2026-11-23T18:00:00+00:00", instance_id="i-0abc1234", is_warning=True, action="terminate")
REBALANCE = InstanceNotice(at="2026-11-23T17:50:00+00:00", instance_id="i-0abc1234", is_warning=False)


def test_notices_of_an_instance_join_in_any_order_and_number() -> None:
    for order in ((WARNED, REBALANCE), (REBALANCE, WARNED), (WARNED, WARNED, REBALANCE, WARNED)):
        ledger = MemoryLedger()

        for notice in order:
            interruption.record(notice, ledger=ledger)

        assert ledger.interruption_of("i-0abc1234") == Interruption(
            instance_id="i-0abc1234",
            warned_at="2026-11-23T18:00:00+00:00",
            action="terminate",
            rebalance_at="2026-11-23T17:50:00+00:00",
        )


ORDER = order_of(job_request(new_run()))


def blocked(job_id: str) -> QueueBlocked:
    return QueueBlocked(at="2026-11-23T18:00:00+00:00", event_id="e-1", job_id=job_id, reason="CAPACITY:X")


def test_a_blocked_job_of_ours_has_it_in_its_history_once() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run())
    batch.jobs["job-1"] = Job(job_id="job-1", name="digits-7fq2-1", status=JobStatus.RUNNABLE, order=ORDER)

    blocked_queue.record(blocked("job-1"), ledger=ledger, batch=batch)
    blocked_queue.record(blocked("job-1"), ledger=ledger, batch=batch)

    assert [(event.kind, event.message) for event in ledger.history("digits-7fq2")] == [("queue-blocked", "CAPACITY:X")]


def test_a_blocked_job_of_others_has_no_history_and_one_that_batch_does_not_know_is_ignored() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    batch.jobs["job-1"] = Job(job_id="job-1", name="nightly-etl", status=JobStatus.RUNNABLE, order=ORDER)

    outcomes = [blocked_queue.record(blocked(job), ledger=ledger, batch=batch).outcome for job in ("job-1", "job-x")]

    assert outcomes == [Outcome.RECORDED, Outcome.IGNORED]
    assert ledger.events == {}
