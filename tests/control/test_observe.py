from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, Job, JobAttempt, JobStatus
from spotkeeper.control.reconcile import observe_job
from spotkeeper.control.run import SUCCESSORS, Attempt, Interruption, Run
from spotkeeper.control.submit import job_request
from tests.control.fakes import NOW, MemoryBatch, MemoryLedger, memory_ports, new_run, order_of

NORMAL = "Essential container in task exited"
HOST = "Host EC2 (instance i-0abc1234) terminated."
RUN = "digits-7fq2"


def at(minute: int) -> str:
    return f"2026-11-23T18:{minute:02}:00.000+00:00"


FIRST = JobAttempt(started_at=at(1), log_stream="cpu/1")
FIRST_LOST = replace(FIRST, stopped_at=at(9), status_reason=HOST)
SECOND = JobAttempt(started_at=at(11), log_stream="cpu/2")
SECOND_DONE = replace(SECOND, stopped_at=at(20), exit_code=0, status_reason=NORMAL)


def job(status: JobStatus, *attempts: JobAttempt, **facts: Any) -> Job:
    return Job(
        job_id="job-1",
        name=f"{RUN}-1",
        status=status,
        order=order_of(job_request(new_run())),
        attempts=attempts,
        **facts,
    )


def submitted() -> tuple[MemoryLedger, MemoryBatch]:
    ledger = MemoryLedger()
    ledger.create(new_run(state=RunState.SUBMITTED, job_id="job-1"))
    return ledger, MemoryBatch()


def see(ledger: MemoryLedger, batch: MemoryBatch, now: Job) -> Outcome:
    batch.jobs[now.job_id] = now
    return observe_job(now.job_id, ports=memory_ports(ledger, batch), now=NOW).outcome


def test_a_job_that_batch_does_not_know_changes_nothing() -> None:
    ledger, batch = submitted()
    before = dict(ledger.runs)

    seen = observe_job("job-9", ports=memory_ports(ledger, batch), now=NOW)

    assert seen.outcome is Outcome.IGNORED
    assert "does not know job job-9" in seen.reason
    assert ledger.runs == before


@pytest.mark.parametrize("name", ["nightly-etl", "nobody-7fq2-1", f"{RUN}-x", f"{RUN}-2", f"{RUN}-01", "-1"])
def test_jobs_of_others_are_ignored(name: str) -> None:
    ledger, batch = submitted()

    outcome = see(ledger, batch, replace(job(JobStatus.FAILED), name=name))

    assert outcome is Outcome.IGNORED
    assert ledger.runs[RUN].state is RunState.SUBMITTED


def test_a_second_job_of_the_same_submission_is_ignored() -> None:
    ledger, batch = submitted()

    outcome = see(ledger, batch, replace(job(JobStatus.FAILED, FIRST_LOST), job_id="job-2"))

    assert outcome is Outcome.UNCHANGED
    assert ledger.attempt_items == {}
    assert ledger.runs[RUN].state is RunState.SUBMITTED


@pytest.mark.parametrize(
    "change",
    [
        {"queue": "arn:aws:batch:us-east-1:123456789012:job-queue/somebody-elses"},
        {"variables": {}},
        {"variables": {"SPOTKEEPER_RUN_ID": "other-1234", "SPOTKEEPER_SUBMISSION": "1"}},
        {"variables": {"SPOTKEEPER_RUN_ID": RUN, "SPOTKEEPER_SUBMISSION": "2"}},
    ],
)
def test_a_job_that_only_bears_the_name_of_a_submission_is_not_taken_for_it(change: dict[str, Any]) -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    before = ledger.create(new_run())
    named = job(JobStatus.FAILED, replace(FIRST, stopped_at=at(9), exit_code=1, status_reason=NORMAL))

    assert see(ledger, batch, replace(named, order=replace(named.order, **change))) is Outcome.IGNORED

    assert (ledger.runs[RUN], ledger.attempt_items, batch.terminated) == (before, {}, [])


@pytest.mark.parametrize("status", [JobStatus.RUNNABLE, JobStatus.STARTING, JobStatus.RUNNING])
def test_a_second_job_of_the_same_submission_is_stopped_as_its_claim_would_be_refused(status: JobStatus) -> None:
    ledger, batch = submitted()

    see(ledger, batch, replace(job(status), job_id="job-2"))

    assert batch.terminated == [("job-2", TWIN_REASON)]


def test_a_job_whose_reply_was_lost_is_adopted() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run())

    assert see(ledger, batch, job(JobStatus.RUNNABLE)) is Outcome.RECORDED

    assert (ledger.runs[RUN].state, ledger.runs[RUN].job_id) == (RunState.SUBMITTED, "job-1")


def test_a_lost_attempt_is_recorded_from_the_state_that_batch_retries_it_in() -> None:
    ledger, batch = submitted()

    assert see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST)) is Outcome.RECORDED

    (attempt,) = ledger.attempts(RUN)
    assert (attempt.started_at, attempt.stopped_at, attempt.exit_code) == (at(1), at(9), None)
    assert (attempt.cause, attempt.log_stream, attempt.job_id) == ("host-lost", "cpu/1", "job-1")
    assert ledger.runs[RUN].state is RunState.SUBMITTED


def test_a_warning_makes_the_loss_an_interruption() -> None:
    ledger, batch = submitted()
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=at(7)), expires_at=1)

    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))

    (attempt,) = ledger.attempts(RUN)
    assert (attempt.cause, attempt.warned_at) == ("interrupted", at(7))


def test_a_warning_that_comes_late_is_joined_at_the_next_observation() -> None:
    ledger, batch = submitted()
    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=at(7)), expires_at=1)

    see(ledger, batch, job(JobStatus.RUNNING, FIRST_LOST, SECOND))

    assert [attempt.cause for attempt in ledger.attempts(RUN)] == ["interrupted", None]


@pytest.mark.parametrize(("minute", "cause"), [(8, "interrupted"), (9, "interrupted"), (10, "host-lost")])
def test_only_a_warning_from_before_the_end_made_the_loss_an_interruption(minute: int, cause: str) -> None:
    """Warned of later, the attempt was lost to something else."""
    ledger, batch = submitted()
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=at(minute)), expires_at=1)

    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))

    assert ledger.attempts(RUN)[0].cause == cause


def test_a_warning_after_the_jobs_last_event_counts_once_somebody_looks_again() -> None:
    ledger, batch = submitted()
    last = job(JobStatus.FAILED, FIRST_LOST, status_reason=HOST, stopped_at=at(9))
    see(ledger, batch, last)
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=at(7)), expires_at=1)

    assert ledger.attempts(RUN)[0].cause == "host-lost"
    see(ledger, batch, last)
    assert ledger.attempts(RUN)[0].cause == "interrupted"
    assert ledger.runs[RUN].submission == 2, "the loss was followed by one submission, not by two"


def test_a_rebalance_recommendation_alone_is_no_warning() -> None:
    ledger, batch = submitted()
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", rebalance_at=at(7)), expires_at=1)

    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))

    assert ledger.attempts(RUN)[0].cause == "host-lost"


def test_exit_0_with_a_completion_record_of_the_current_epoch_is_success() -> None:
    ledger, batch = submitted()
    ledger.claim(RUN, "job-1", 1)
    ledger.complete(RUN, 1)

    outcome = see(ledger, batch, job(JobStatus.SUCCEEDED, SECOND_DONE, stopped_at=at(20), status_reason=NORMAL))

    assert outcome is Outcome.CLOSED
    assert (ledger.runs[RUN].state, ledger.runs[RUN].closed_at) == (RunState.SUCCEEDED, at(20))
    assert ledger.runs[RUN].reason is None


def test_exit_0_without_a_completion_record_is_failure_and_says_so() -> None:
    ledger, batch = submitted()
    ledger.claim(RUN, "job-1", 1)

    see(ledger, batch, job(JobStatus.SUCCEEDED, SECOND_DONE, status_reason=NORMAL))

    assert ledger.runs[RUN].state is RunState.FAILED
    assert "no completion record" in (ledger.runs[RUN].reason or "")


def test_a_completion_record_of_an_older_epoch_does_not_count() -> None:
    ledger, batch = submitted()
    ledger.claim(RUN, "job-1", 1)
    ledger.complete(RUN, 1)
    ledger.claim(RUN, "job-1", 2)

    see(ledger, batch, job(JobStatus.SUCCEEDED, FIRST_LOST, SECOND_DONE))

    assert ledger.runs[RUN].state is RunState.FAILED


def test_a_host_that_died_between_completion_and_exit_does_not_undo_the_success() -> None:
    ledger, batch = submitted()
    ledger.claim(RUN, "job-1", 1)
    ledger.complete(RUN, 1)

    see(ledger, batch, job(JobStatus.FAILED, FIRST_LOST, status_reason=HOST))

    assert ledger.runs[RUN].state is RunState.SUCCEEDED


def test_a_failed_job_fails_its_run_with_the_reason() -> None:
    ledger, batch = submitted()
    failed = replace(FIRST, stopped_at=at(5), exit_code=3, status_reason=NORMAL)

    see(ledger, batch, job(JobStatus.FAILED, failed, status_reason=NORMAL))

    assert ledger.runs[RUN].state is RunState.FAILED
    assert ledger.runs[RUN].reason == "the program failed with exit code 3"


def test_a_cancelled_run_ends_as_cancelled() -> None:
    ledger, batch = submitted()
    ledger.advance(ledger.runs[RUN], cancel_requested_at=at(4))

    see(ledger, batch, job(JobStatus.FAILED, status_reason="Cancelled with spotkeeper cancel", stopped_at=at(5)))

    assert (ledger.runs[RUN].state, ledger.runs[RUN].closed_at) == (RunState.CANCELLED, at(5))


def test_the_job_of_an_earlier_submission_adds_its_attempts_and_leaves_the_run_alone() -> None:
    ledger, batch = submitted()
    ledger.runs[RUN] = replace(ledger.runs[RUN], submission=2, job_id="job-2")

    see(ledger, batch, job(JobStatus.FAILED, FIRST_LOST))

    assert [(attempt.submission, attempt.cause) for attempt in ledger.attempts(RUN)] == [(1, "host-lost")]
    assert (ledger.runs[RUN].state, ledger.runs[RUN].job_id) == (RunState.SUBMITTED, "job-2")


def test_a_second_job_of_an_earlier_submission_tells_nothing_of_its_attempts() -> None:
    ledger, batch = submitted()
    see(ledger, batch, job(JobStatus.FAILED, FIRST_LOST))
    ledger.runs[RUN] = replace(ledger.runs[RUN], submission=2, job_id="job-2")
    before = dict(ledger.attempt_items)

    see(ledger, batch, replace(job(JobStatus.FAILED, SECOND_DONE, SECOND_DONE), job_id="job-3"))

    assert ledger.attempt_items == before
    assert [attempt.job_id for attempt in ledger.attempts(RUN)] == ["job-1"]


def test_what_an_attempt_wrote_of_itself_stays() -> None:
    ledger, batch = submitted()
    see(ledger, batch, job(JobStatus.RUNNING, FIRST))
    key = (RUN, 1, 1)
    ledger.attempt_items[key] = replace(ledger.attempt_items[key], epoch=1, instance_type="c6i.xlarge")

    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))

    assert (ledger.attempt_items[key].epoch, ledger.attempt_items[key].instance_type) == (1, "c6i.xlarge")


@pytest.mark.parametrize(
    ("changes", "market"),
    [
        ({"market": "on-demand"}, "on-demand"),
        ({"market": "spot"}, "spot"),
        (
            {
                "market": "on-demand",
                "submission": 2,
                "job_id": "job-2",
                "standby_submission": 1,
                "standby_job_id": "job-1",
            },
            "spot",
        ),
        ({"market": "on-demand", "submission": 2, "job_id": "job-2"}, None),
    ],
    ids=["on-demand", "spot", "standby of an on-demand job", "earlier submission"],
)
def test_an_attempt_that_never_claimed_has_the_market_of_its_submission(
    changes: dict[str, Any], market: str | None
) -> None:
    """Otherwise its dollars would be counted as spot's."""
    ledger, batch = submitted()
    ledger.runs[RUN] = replace(ledger.runs[RUN], **changes)

    see(ledger, batch, job(JobStatus.RUNNABLE, FIRST_LOST))

    assert ledger.attempt_items[(RUN, 1, 1)].market == market


def test_a_second_look_at_the_same_job_writes_nothing() -> None:
    ledger, batch = submitted()
    done = job(JobStatus.FAILED, FIRST_LOST, status_reason=HOST, stopped_at=at(9))
    see(ledger, batch, done)
    runs, attempts = dict(ledger.runs), dict(ledger.attempt_items)

    assert see(ledger, batch, done) is Outcome.UNCHANGED

    assert (ledger.runs, ledger.attempt_items) == (runs, attempts)


class WrittenInBetween(MemoryLedger):
    """A claim lands between the read and the write."""

    def advance(self, run: Run, **changes: Any) -> Run:
        self.claim(RUN, "job-1", 2)
        return super().advance(run, **changes)


def test_a_write_in_between_is_a_conflict_so_that_the_message_comes_again() -> None:
    ledger = WrittenInBetween()
    ledger.create(new_run(state=RunState.SUBMITTED, job_id="job-1"))

    with pytest.raises(Conflict):
        see(ledger, MemoryBatch(), job(JobStatus.FAILED, FIRST_LOST, status_reason=HOST))
    assert ledger.runs[RUN].state is RunState.RUNNING


LIFE = (
    job(JobStatus.RUNNABLE),
    job(JobStatus.STARTING),
    job(JobStatus.RUNNING, FIRST),
    job(JobStatus.RUNNABLE, FIRST_LOST),
    job(JobStatus.RUNNING, FIRST_LOST, SECOND),
    job(JobStatus.SUCCEEDED, FIRST_LOST, SECOND_DONE, status_reason=NORMAL, stopped_at=at(20)),
)


def assert_nothing_taken_back(before: Attempt, after: Attempt) -> None:
    for name in ("started_at", "stopped_at", "exit_code", "status_reason", "log_stream", "warned_at"):
        assert getattr(before, name) in (None, getattr(after, name))
    assert (before.cause, after.cause) == ("host-lost", "interrupted") or before.cause in (None, after.cause)


@settings(max_examples=150, deadline=None)
@given(
    hints=st.lists(st.tuples(st.integers(0, len(LIFE) - 1), st.booleans()), max_size=12),
    warned_after=st.integers(0, 12),
)
def test_any_order_delay_and_repetition_of_events_gives_the_same_ledger(
    hints: list[tuple[int, bool]], warned_after: int
) -> None:
    """Batch's answers may even be stale: each hint is answered with any earlier state of the job."""
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run())
    ledger.claim(RUN, "job-1", 1)
    ledger.claim(RUN, "job-1", 2)
    ledger.complete(RUN, 2)
    warning = Interruption(instance_id="i-0abc1234", warned_at=at(7))

    for index, (state, twice) in enumerate(hints):
        if index == warned_after:
            ledger.record_interruption(warning, expires_at=1)
        for _ in range(1 + twice):
            before = {item.attempt: item for item in ledger.attempts(RUN)}
            see(ledger, batch, LIFE[state])
            for item in ledger.attempts(RUN):
                assert_nothing_taken_back(before.get(item.attempt, item), item)
    ledger.record_interruption(warning, expires_at=1)
    see(ledger, batch, LIFE[-1])

    run, (first, second) = ledger.runs[RUN], ledger.attempts(RUN)
    assert (run.state, run.closed_at, run.reason, run.epoch) == (RunState.SUCCEEDED, at(20), None, 2)
    assert (first.cause, first.stopped_at, first.exit_code, first.log_stream) == ("interrupted", at(9), None, "cpu/1")
    assert (second.cause, second.stopped_at, second.exit_code) == ("completed", at(20), 0)
    for (_, earlier), (submission, later) in zip(ledger.states_seen, ledger.states_seen[1:], strict=False):
        assert submission == 1
        assert later is earlier or later in SUCCESSORS[earlier]
