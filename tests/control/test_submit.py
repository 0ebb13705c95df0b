from collections.abc import Mapping
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON, TWIN_REASON
from spotkeeper.control.ports import Conflict, Job, NotAllowed, Refused, ReplyLost, UnknownRun
from spotkeeper.control.submit import finish, job_request, submit
from tests.control.fakes import NOW, MemoryBatch, MemoryLedger, memory_ports, new_run


def test_the_request_is_a_function_of_the_run() -> None:
    assert job_request(new_run(submission=2)) == {
        "jobName": "digits-7fq2-2",
        "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/spot",
        "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        "shareIdentifier": "research",
        "containerOverrides": {
            "command": ["spotkeeper-exec", "--", "python", "train.py"],
            "environment": [
                {"name": "SPOTKEEPER_ATTEMPT_SECONDS", "value": "3600"},
                {"name": "SPOTKEEPER_MAX_LOST_SECONDS", "value": "900"},
                {"name": "SPOTKEEPER_RUN_ID", "value": "digits-7fq2"},
                {"name": "SPOTKEEPER_SUBMISSION", "value": "2"},
            ],
        },
        "timeout": {"attemptDurationSeconds": 3600},
        "tags": {
            "spotkeeper:project": "spotkeeper",
            "spotkeeper:environment": "dev",
            "spotkeeper:team": "research",
            "spotkeeper:profile": "cpu",
            "spotkeeper:market": "spot",
            "spotkeeper:run": "digits-7fq2",
        },
        "propagateTags": True,
    }


class IntentFirst(MemoryBatch):
    """Sees what the ledger holds at the moment of SubmitJob."""

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__()
        self.ledger = ledger
        self.states: list[RunState] = []

    def submit(self, request: Mapping[str, Any]) -> str:
        run = self.ledger.get("digits-7fq2")
        assert run is not None
        self.states.append(run.state)
        return super().submit(request)


def test_the_intent_is_recorded_before_the_job_is_submitted() -> None:
    ledger = MemoryLedger()
    batch = IntentFirst(ledger)

    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert batch.states == [RunState.SUBMITTING]
    assert (run.state, run.job_id, run.version) == (RunState.SUBMITTED, "job-1", 3)


def test_a_lost_reply_is_resolved_by_look_up_without_a_second_submission() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch(lost_replies=1)

    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert run.job_id == "job-1"
    assert len(batch.requests) == 1


def test_a_lost_request_leaves_a_run_that_finish_submits() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch(lost_requests=1)
    with pytest.raises(ReplyLost):
        submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    run = finish("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert (run.state, run.job_id) == (RunState.SUBMITTED, "job-1")


def test_finish_finds_the_job_of_a_crashed_submitter_instead_of_starting_a_second() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    run = ledger.create(new_run())
    batch.submit(job_request(run))  # and then the submitter crashed

    finished = finish("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert finished.job_id == "job-1"
    assert len(batch.jobs) == 1


def test_a_job_of_others_that_bears_the_name_is_not_taken_for_the_runs_own() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    run = ledger.create(new_run())
    batch.submit(theirs(job_request(run)))

    finished = finish("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW)

    assert finished.job_id == "job-2"


def test_a_lost_request_is_not_resolved_by_a_job_of_others() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    batch.submit(theirs(job_request(new_run())))
    batch.lost_requests = 1

    with pytest.raises(ReplyLost):
        submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)


def theirs(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request of the same name whose job knows no run of ours."""
    return {**request, "containerOverrides": {"command": ["sleep", "60"], "environment": []}}


def test_finish_of_a_submitted_run_does_nothing() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert finish(run.run_id, ports=memory_ports(ledger, batch), now=NOW) == run
    assert len(batch.requests) == 1


def test_finish_of_an_unknown_run_says_so() -> None:
    with pytest.raises(UnknownRun, match="there is no run 'nobody-1'"):
        finish("nobody-1", ports=memory_ports(MemoryLedger(), MemoryBatch()), now=NOW)


def test_a_taken_run_id_is_a_conflict_and_submits_nothing() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run(team="other"))

    with pytest.raises(Conflict):
        submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)
    assert batch.requests == []


class ClaimsAtOnce(MemoryBatch):
    """The job starts and claims before its submitter has the reply."""

    def __init__(self, ledger: MemoryLedger, claiming_job: str) -> None:
        super().__init__()
        self.ledger = ledger
        self.claiming_job = claiming_job

    def submit(self, request: Mapping[str, Any]) -> str:
        job_id = super().submit(request)
        self.ledger.claim("digits-7fq2", self.claiming_job, 1)
        return job_id


def test_a_claim_that_comes_before_the_reply_is_kept() -> None:
    ledger = MemoryLedger()
    batch = ClaimsAtOnce(ledger, claiming_job="job-1")

    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert (run.state, run.job_id, run.epoch) == (RunState.RUNNING, "job-1", 1)
    assert batch.terminated == []


def test_a_job_that_finds_its_run_held_by_a_twin_is_stopped() -> None:
    ledger = MemoryLedger()
    batch = ClaimsAtOnce(ledger, claiming_job="job-0")

    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert run.job_id == "job-0"
    assert batch.terminated == [("job-1", TWIN_REASON)]


class CancelledMeanwhile(MemoryBatch):
    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__()
        self.ledger = ledger

    def submit(self, request: Mapping[str, Any]) -> str:
        # Look-up shows a job some time after its submission: cancel does not find it.
        cancel("digits-7fq2", ports=memory_ports(self.ledger), now=NOW)
        return super().submit(request)


def test_a_run_that_was_cancelled_during_the_submission_has_its_job_stopped() -> None:
    ledger = MemoryLedger()
    batch = CancelledMeanwhile(ledger)

    run = submit(new_run(), ports=memory_ports(ledger, batch), now=NOW)

    assert run.state is RunState.CANCELLED
    assert batch.terminated == [("job-1", CANCEL_REASON)]


class Refusing(MemoryBatch):
    def submit(self, request: Mapping[str, Any]) -> str:
        raise Refused(f"{request['jobQueue'].rpartition('/')[2]} is disabled")


def test_a_refused_request_closes_the_run_with_the_words_of_batch() -> None:
    ledger = MemoryLedger()

    with pytest.raises(Refused):
        submit(new_run(), ports=memory_ports(ledger, Refusing()), now=NOW)

    run = ledger.runs["digits-7fq2"]
    assert (run.state, run.closed_at) == (RunState.FAILED, NOW)
    assert run.reason == "AWS Batch refused the job: spot is disabled"


def test_a_request_that_is_refused_ends_no_run_whose_job_an_earlier_call_made() -> None:
    class Wavering(MemoryBatch):
        """Takes the first request, whose reply is lost and whose job shows late, and refuses the second."""

        is_seen = False

        def submit(self, request: Mapping[str, Any]) -> str:
            if self.jobs:
                raise Refused("the queue is disabled")
            return super().submit(request)

        def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
            return super().find(name, queue=queue) if self.is_seen else ()

    ledger, batch = MemoryLedger(), Wavering(lost_replies=1)
    ports = memory_ports(ledger, batch)
    with pytest.raises(ReplyLost):
        submit(new_run(), ports=ports, now=NOW)
    with pytest.raises(Refused):
        finish("digits-7fq2", ports=ports, now=NOW, is_new=True)  # whose submission of the run began at the same moment
    assert ledger.runs["digits-7fq2"].state is RunState.SUBMITTING

    batch.is_seen = True
    assert finish("digits-7fq2", ports=ports, now=NOW).job_id == "job-1"


def test_a_request_that_is_refused_ends_no_run_that_somebody_else_submits_at_the_same_moment() -> None:
    ledger = MemoryLedger()

    class Contended(MemoryBatch):
        """Refuses a call while another one, of the very same run, succeeds."""

        is_refusing = True

        def submit(self, request: Mapping[str, Any]) -> str:
            if not self.is_refusing:
                return super().submit(request)
            self.is_refusing = False
            finish("digits-7fq2", ports=memory_ports(ledger, self), now=NOW, is_new=True)
            raise Refused("the queue was disabled a moment ago")

    with pytest.raises(Refused):
        submit(new_run(), ports=memory_ports(ledger, Contended()), now=NOW)

    run = ledger.runs["digits-7fq2"]
    assert (run.state, run.job_id) == (RunState.SUBMITTED, "job-1")


def test_a_request_that_is_refused_ends_no_run_whose_job_a_later_call_made_within_the_minute() -> None:
    ledger = MemoryLedger()

    class Contended(MemoryBatch):
        """Refuses a call; before that is recorded another one succeeds, whose reply is lost and job shows late."""

        is_refusing, is_seen = True, False

        def submit(self, request: Mapping[str, Any]) -> str:
            if not self.is_refusing:
                return super().submit(request)
            self.is_refusing = False
            with pytest.raises(ReplyLost):
                finish("digits-7fq2", ports=memory_ports(ledger, self), now=NOW)
            raise Refused("the queue was disabled a moment ago")

        def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
            return super().find(name, queue=queue) if self.is_seen else ()

    batch = Contended(lost_replies=1)
    ports = memory_ports(ledger, batch)
    with pytest.raises(Refused):
        submit(new_run(), ports=ports, now=NOW)
    assert ledger.runs["digits-7fq2"].state is RunState.SUBMITTING

    batch.is_seen = True
    assert finish("digits-7fq2", ports=ports, now=NOW).job_id == "job-1"


def test_a_refusal_of_the_submission_before_that_an_older_function_left_standing_holds_nothing_up() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run(submission=2, intent_at=NOW, refused_at="2026-11-20T18:00:00+00:00", reason="refused"))

    assert finish("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW).job_id == "job-1"


def test_a_call_that_an_older_function_made_after_a_refusal_is_waited_for() -> None:
    ledger, batch = MemoryLedger(), MemoryBatch()
    ledger.create(new_run(refused_at="2026-11-23T17:00:00+00:00", sent_at="2026-11-23T17:50:00+00:00"))

    assert finish("digits-7fq2", ports=memory_ports(ledger, batch), now=NOW).state is RunState.SUBMITTING
    later = "2026-11-23T18:05:00+00:00"
    assert finish("digits-7fq2", ports=memory_ports(ledger, batch), now=later).state is RunState.FAILED


def test_a_run_whose_submitter_may_not_submit_stays_and_goes_on_once_that_is_mended() -> None:
    class Denies(MemoryBatch):
        is_denied = True

        def submit(self, request: Mapping[str, Any]) -> str:
            if self.is_denied:
                raise NotAllowed("AccessDeniedException: with an explicit deny")
            return super().submit(request)

    ledger, batch = MemoryLedger(), Denies()
    ports = memory_ports(ledger, batch)
    with pytest.raises(NotAllowed):
        submit(new_run(), ports=ports, now=NOW)
    run = ledger.runs["digits-7fq2"]
    assert (run.state, run.reason) == (
        RunState.SUBMITTING,
        "AWS does not allow its job to be submitted: AccessDeniedException: with an explicit deny",
    )

    batch.is_denied = False
    submitted = finish(run.run_id, ports=ports, now=NOW)
    assert (submitted.state, submitted.reason) == (RunState.SUBMITTED, None)
