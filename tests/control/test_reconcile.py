"""Runs moved on by whatever looks at them: events in any order, a sweep, or nothing but sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON, PAUSE_REASON, TWIN_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.ports import Conflict, Job, JobAttempt, JobStatus, NotAllowed, Refused, Throttled
from spotkeeper.control.run import SUCCESSORS, Interruption, Run
from spotkeeper.control.submit import job_request, submit
from spotkeeper.control.sweep import sweep
from tests.control.fakes import NOW, MemoryBatch, MemoryCheckpoints, MemoryLedger, memory_ports, new_run
from tests.control.reconciled import NORMAL, RUN, World, after


def started(**parts: Any) -> World:
    world = World(**parts)
    world.submit()
    return world


def test_a_job_that_lost_its_last_host_is_followed_by_the_next_submission() -> None:
    world = started()
    world.lose_host("job-1", step=100)

    assert world.hear("job-1") is Outcome.REQUEUED

    assert world.summary == (RunState.SUBMITTED, 2)
    assert (world.run.job_id, world.run.committed_step, world.run.num_stalls) == ("job-2", 100, 0)
    first, second = world.batch.requests
    assert second == {
        **first,
        "jobName": "digits-7fq2-2",
        "containerOverrides": {
            **first["containerOverrides"],
            "environment": [
                {"name": "SPOTKEEPER_ATTEMPT_SECONDS", "value": "3600"},
                {"name": "SPOTKEEPER_MAX_LOST_SECONDS", "value": "900"},
                {"name": "SPOTKEEPER_RUN_ID", "value": RUN},
                {"name": "SPOTKEEPER_SUBMISSION", "value": "2"},
            ],
        },
    }
    (event,) = world.ledger.history(RUN)
    assert (event.kind, event.message) == (
        "requeued",
        "submission 1: the host was lost, and Batch has no retry left; committed up to step 100",
    )


class IntentFirst(MemoryBatch):
    ledger: MemoryLedger

    def submit(self, request: Mapping[str, Any]) -> str:
        run = self.ledger.runs[RUN]
        assert (run.state, run.job_id) == (RunState.SUBMITTING, None)
        assert request["jobName"] == f"{RUN}-{run.submission}"
        return super().submit(request)


def test_the_intent_of_a_requeue_is_recorded_before_its_job_is_submitted() -> None:
    batch, ledger = IntentFirst(), MemoryLedger()
    batch.ledger = ledger
    world = started(batch=batch, ledger=ledger)
    world.lose_host("job-1", step=1)

    world.hear("job-1")

    assert len(batch.requests) == 2


def test_three_submissions_without_a_newer_checkpoint_park_the_run_and_no_fourth_is_paid_for() -> None:
    world = started()
    for number in (1, 2, 3):  # the first brings a checkpoint
        world.lose_host(f"job-{number}", step=50)
        assert world.hear(f"job-{number}") is Outcome.REQUEUED
    world.lose_host("job-4", step=50)

    assert world.hear("job-4") is Outcome.PARKED

    assert world.summary == (RunState.PARKED, 4)
    assert len(world.batch.jobs) == 4
    assert world.look(minute=10_000) is Outcome.UNCHANGED
    assert world.run.reason is not None
    assert world.run.reason.endswith("no newer checkpoint in 3 of at most 3 submissions")


def test_a_run_goes_on_through_a_hundred_submissions_as_long_as_it_comes_forward() -> None:
    world = started()
    for number in range(1, 101):
        world.lose_host(f"job-{number}", step=number)
        assert world.hear(f"job-{number}", minute=number) is Outcome.REQUEUED

    assert world.summary == (RunState.SUBMITTED, 101)


def test_the_users_own_failure_ends_the_run_without_a_second_job() -> None:
    world = started()
    failed = JobAttempt(started_at=after(1), stopped_at=after(5), exit_code=3, status_reason=NORMAL)
    world.change("job-1", JobStatus.FAILED, failed, status_reason=NORMAL, stopped_at=after(5))

    assert world.hear("job-1") is Outcome.CLOSED

    assert world.summary == (RunState.FAILED, 1)
    assert world.run.reason == "the program failed with exit code 3"
    assert len(world.batch.requests) == 1


def test_a_wait_for_capacity_is_visible_and_ends_when_it_is_due() -> None:
    world = started()
    world.give_up("job-1")

    assert world.hear("job-1", minute=10) is Outcome.WAITING

    assert world.summary == (RunState.WAITING, 1)
    assert world.run.wait_until == after(15)
    assert world.run.reason is not None
    assert "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY" in world.run.reason
    assert world.look(minute=14.9) is Outcome.UNCHANGED
    assert world.look(minute=15) is Outcome.SUBMITTED
    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.run.num_capacity_waits == 1
    assert (world.run.wait_until or world.run.reason) is None


@pytest.mark.parametrize("state", [RunState.SUBMITTED, RunState.RUNNING])
def test_a_job_that_batch_does_not_know_is_never_a_reason_to_act(state: RunState) -> None:
    world = World()
    run = world.ledger.create(new_run(state=state, job_id="job-9"))

    assert world.look(minute=1) is Outcome.UNCHANGED
    assert world.look(minute=100_000) is Outcome.UNCHANGED

    assert world.run == replace(run, job_unknown_since=after(1), version=2)
    assert world.run.why == f"AWS Batch does not know job job-9 (since {after(1)})"
    assert world.batch.requests == []
    assert world.batch.terminated == []


class Blind(MemoryBatch):
    def describe(self, job_id: str) -> Job | None:
        raise Throttled(f"Too Many Requests: {job_id}")


def test_a_describe_call_that_fails_changes_nothing() -> None:
    world = started(batch=Blind())
    before = world.run

    with pytest.raises(Throttled):
        world.look()

    assert world.run == before
    assert len(world.batch.requests) == 1


class NoBucket(MemoryCheckpoints):
    def newest_step(self, run_id: str) -> int | None:
        raise Throttled(f"SlowDown: {run_id}")


def test_a_bucket_that_does_not_answer_is_no_lack_of_progress() -> None:
    world = started()
    world.ports = replace(world.ports, checkpoints=NoBucket())
    world.lose_host("job-1")

    with pytest.raises(Throttled):
        world.hear("job-1")

    assert world.summary == (RunState.SUBMITTED, 1)


def test_late_events_of_an_old_submission_add_facts_and_do_not_move_the_run() -> None:
    world = started()
    world.lose_host("job-1", step=1)
    world.hear("job-1")
    before = world.run

    assert world.hear("job-1", minute=60) is Outcome.UNCHANGED

    assert world.run == before
    assert len(world.batch.requests) == 2


class Crashing(MemoryBatch):
    is_down = False

    def submit(self, request: Mapping[str, Any]) -> str:
        if self.is_down:
            raise KeyboardInterrupt
        return super().submit(request)


def test_a_handler_that_died_after_the_intent_is_finished_by_a_later_look_but_not_overtaken() -> None:
    batch = Crashing()
    world = started(batch=batch)
    world.lose_host("job-1", step=1)
    batch.is_down = True
    with pytest.raises(KeyboardInterrupt):
        world.hear("job-1", minute=10)
    batch.is_down = False

    assert world.summary == (RunState.SUBMITTING, 2)
    assert world.look(minute=10.5) is Outcome.UNCHANGED, "it may still be at work"
    assert world.look(minute=11.5) is Outcome.SUBMITTED
    assert (world.summary, world.run.job_id) == ((RunState.SUBMITTED, 2), "job-2")


def test_a_job_whose_reply_was_lost_is_found_by_its_name_and_not_submitted_twice() -> None:
    world = started()
    world.lose_host("job-1", step=1)
    world.batch.lost_replies = 1

    world.hear("job-1")

    assert world.run.job_id == "job-2"
    assert len(world.batch.jobs) == 2


def test_without_a_slot_in_this_second_the_submission_is_left_to_the_next_look() -> None:
    world = started()
    world.lose_host("job-1", step=1)
    for _ in range(20):
        second = int(datetime.fromisoformat(after(10)).timestamp())
        assert world.ledger.take_submission_slot(second=second, team="research", limit=40, team_limit=20)

    assert world.hear("job-1", minute=10) is Outcome.DEFERRED

    assert world.summary == (RunState.SUBMITTING, 2)
    assert len(world.batch.requests) == 1
    assert world.look(minute=15) is Outcome.SUBMITTED


class Refusing(MemoryBatch):
    is_refusing = False

    def submit(self, request: Mapping[str, Any]) -> str:
        if self.is_refusing:
            raise Refused("the queue is disabled")
        return super().submit(request)


def test_a_refused_requeue_parks_the_run_once_no_look_up_can_show_a_job_of_an_earlier_call() -> None:
    batch = Refusing()
    world = started(batch=batch)
    world.lose_host("job-1", step=1)
    batch.is_refusing = True

    assert world.hear("job-1") is Outcome.DEFERRED
    assert world.look(minute=24) is Outcome.DEFERRED
    assert (world.run.state, world.run.why) == (RunState.SUBMITTING, "AWS Batch refused the job: the queue is disabled")
    assert world.look(minute=25) is Outcome.PARKED

    assert world.run.reason == "AWS Batch refused the job: the queue is disabled"
    batch.is_refusing = False
    assert resume(RUN, ports=memory_ports(world.ledger, batch), now=after(20)).state is RunState.SUBMITTED


def test_a_job_that_shows_up_after_a_later_call_was_refused_is_the_runs() -> None:
    batch = Refusing()
    world = started(batch=batch)
    world.lose_host("job-1", step=1)
    batch.is_refusing = True
    world.hear("job-1")
    batch.is_refusing = False
    batch.submit(job_request(world.run))

    assert world.look(minute=20) is Outcome.SUBMITTED

    assert (world.summary, world.run.job_id, world.run.why) == ((RunState.SUBMITTED, 2), "job-2", None)


class Denying(MemoryBatch):
    def submit(self, request: Mapping[str, Any]) -> str:
        raise NotAllowed(f"AccessDeniedException: {request['jobName']}, with an explicit deny")


def test_what_aws_does_not_allow_moves_no_run_and_every_sweep_fails_until_it_is_mended() -> None:
    ledger, batch = MemoryLedger(), Denying()
    for number in range(3):
        ledger.create(new_run(f"run-{number}"))

    done = sweep(ports=memory_ports(ledger, batch), clock=lambda: after(5), has_time=lambda: True)

    assert sorted(done.failures) == ["run-0", "run-1", "run-2"]
    assert {run.state for run in ledger.runs.values()} == {RunState.SUBMITTING}
    assert "with an explicit deny" in (ledger.runs["run-0"].why or "")

    done = sweep(ports=memory_ports(ledger, MemoryBatch()), clock=lambda: after(10), has_time=lambda: True)

    assert done.failures == {}
    assert {run.state for run in ledger.runs.values()} == {RunState.SUBMITTED}


def test_a_run_that_finished_on_a_host_given_up_for_lost_succeeds_without_another_job() -> None:
    world = started()
    world.ledger.claim(RUN, "job-1", 1)
    world.give_up("job-1")
    world.hear("job-1", minute=10)
    world.ledger.complete(RUN, 1)

    assert world.look(minute=60) is Outcome.CLOSED

    assert world.summary == (RunState.SUCCEEDED, 1)
    assert len(world.batch.requests) == 1


def test_a_late_warning_corrects_the_cause_of_an_earlier_submission() -> None:
    world = started()
    world.lose_host("job-1", step=1)
    world.hear("job-1")
    world.ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=after(7)), expires_at=1)

    assert world.look(minute=30) is Outcome.RECORDED

    assert [attempt.cause for attempt in world.ledger.attempts(RUN)] == ["interrupted"]
    assert world.look(minute=30) is Outcome.UNCHANGED


# The user's word.


def test_pausing_stops_the_job_and_what_follows_is_rest_not_requeue() -> None:
    world = started()

    wished = pause(RUN, ports=world.ports, now=NOW)
    world.lose_host("job-1", step=7)
    outcome = world.hear("job-1")

    assert wished.pause_requested_at == NOW
    assert world.batch.terminated == [("job-1", PAUSE_REASON)]
    assert (outcome, world.run.state, world.run.pause_requested_at) == (Outcome.PAUSED, RunState.PAUSED, None)
    assert world.look(minute=10_000) is Outcome.UNCHANGED


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.PARKED, RunState.WAITING])
def test_resume_begins_the_next_submission_with_fresh_budgets(state: RunState) -> None:
    world = World()
    world.ledger.create(new_run(state=state, job_id="job-0", num_stalls=3, num_capacity_waits=4, wait_until=after(99)))

    run = resume(RUN, ports=memory_ports(world.ledger, world.batch), now=NOW)

    assert (run.state, run.submission, run.job_id) == (RunState.SUBMITTED, 2, "job-1")
    assert (run.num_stalls, run.num_capacity_waits, run.wait_until) == (0, 0, None)


def test_resume_while_the_job_is_still_stopping_goes_on_when_it_has_stopped() -> None:
    world = started()
    pause(RUN, ports=world.ports, now=NOW)
    resume(RUN, ports=memory_ports(world.ledger, world.batch), now=NOW)
    yielded = JobAttempt(started_at=after(1), stopped_at=after(2), exit_code=75, status_reason=NORMAL)
    world.change("job-1", JobStatus.FAILED, yielded, status_reason=PAUSE_REASON, stopped_at=after(2))

    assert world.hear("job-1") is Outcome.REQUEUED
    assert world.summary == (RunState.SUBMITTED, 2)


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.PARKED, RunState.WAITING])
def test_a_run_at_rest_is_cancelled_at_once(state: RunState) -> None:
    world = World()
    world.ledger.create(new_run(state=state, job_id="job-0"))

    run = cancel(RUN, ports=world.ports, now=NOW)

    assert (run.state, run.closed_at) == (RunState.CANCELLED, NOW)
    assert world.look(minute=10_000) is Outcome.UNCHANGED


@pytest.mark.parametrize("state", [RunState.PARKED, RunState.PAUSED, RunState.FAILED])
def test_pausing_what_rests_or_has_ended_changes_nothing(state: RunState) -> None:
    world = World()
    before = world.ledger.create(new_run(state=state, job_id="job-0"))

    assert pause(RUN, ports=world.ports, now=NOW) == before


@pytest.mark.parametrize("state", [RunState.SUBMITTING, RunState.WAITING])
def test_pausing_a_run_without_a_job_takes_effect_at_once(state: RunState) -> None:
    world = World()
    world.ledger.create(new_run(state=state))

    assert pause(RUN, ports=world.ports, now=NOW).state is RunState.PAUSED


def test_a_job_that_appears_after_its_run_was_paused_does_not_wake_it_and_is_stopped() -> None:
    world = World()
    run = world.ledger.create(new_run(state=RunState.PAUSED))
    world.batch.submit(job_request(run))

    assert world.hear("job-1") is Outcome.UNCHANGED
    assert world.run == run
    assert world.batch.terminated == [("job-1", TWIN_REASON)]


class WishMeanwhile(MemoryCheckpoints):
    """The user's wish lands between the decision's reads and its write."""

    wish: Any = None

    def newest_step(self, run_id: str) -> int | None:
        if self.wish is not None:
            wish, self.wish = self.wish, None
            wish()
        return super().newest_step(run_id)


@pytest.mark.parametrize(("act", "state"), [(cancel, RunState.CANCELLED), (pause, RunState.PAUSED)])
def test_a_wish_that_lands_during_the_decision_wins_over_the_requeue(act: Any, state: RunState) -> None:
    world = started()
    checkpoints = WishMeanwhile(steps={RUN: 5})
    checkpoints.wish = lambda: act(RUN, ports=world.ports, now=NOW)
    world.ports = replace(world.ports, checkpoints=checkpoints)
    world.lose_host("job-1")

    with pytest.raises(Conflict):
        world.hear("job-1")
    world.look()

    assert world.summary == (state, 1)
    assert len(world.batch.requests) == 1


@pytest.mark.parametrize(("act", "reason"), [(cancel, CANCEL_REASON), (pause, PAUSE_REASON)])
def test_a_stop_whose_call_was_lost_is_sent_again(act: Any, reason: str) -> None:
    world = started()
    act(RUN, ports=world.ports, now=NOW)
    world.batch.terminated.clear()  # the call never arrived

    world.look()

    assert world.batch.terminated == [("job-1", reason)]


@pytest.mark.parametrize(
    ("wish", "state"),
    [("cancel_requested_at", RunState.CANCELLED), ("pause_requested_at", RunState.PAUSED)],
)
def test_a_wish_that_was_cut_off_before_a_job_existed_is_carried_out(wish: str, state: RunState) -> None:
    world = World()
    world.ledger.create(new_run(**{wish: NOW}))

    world.look()

    assert world.run.state is state
    assert world.batch.requests == []


def test_a_job_submitted_while_its_run_was_paused_and_resumed_is_stopped() -> None:
    class Slow(MemoryBatch):
        """SubmitJob takes so long that the user pauses and resumes meanwhile; look-up does not show the job yet."""

        def submit(self, request: Mapping[str, Any]) -> str:
            job_id = super().submit(request)
            if len(self.requests) == 1:
                hidden = self.jobs.pop(job_id)
                pause(RUN, ports=replace(world.ports, batch=self), now=NOW)
                resume(RUN, ports=memory_ports(world.ledger, MemoryBatch(jobs={"job-x": hidden})), now=NOW)
                self.jobs[job_id] = hidden
            return job_id

    world = World(batch=Slow())
    world.submit()

    assert world.run.submission == 2
    assert ("job-1", TWIN_REASON) in world.batch.terminated


def test_a_twin_of_an_older_submission_changes_nothing_of_what_its_holder_did() -> None:
    world = started()
    world.lose_host("job-1", step=100)
    world.hear("job-1")
    twin = replace(world.batch.jobs["job-1"], job_id="twin", status_reason=TWIN_REASON)
    refused = JobAttempt(started_at=after(2), stopped_at=after(3), exit_code=76, status_reason=NORMAL)
    world.batch.jobs["twin"] = replace(twin, attempts=(refused, refused))
    told = world.ledger.attempts(RUN)

    assert world.hear("twin") is Outcome.UNCHANGED
    assert world.ledger.attempts(RUN) == told
    assert world.hear("job-1") is Outcome.UNCHANGED


# Sweeps.


def test_a_sweep_counts_what_it_repaired_and_one_failing_run_stops_no_other() -> None:
    class Broken(MemoryBatch):
        def describe(self, job_id: str) -> Job | None:
            if job_id == "job-1":
                raise RuntimeError("boom")
            return super().describe(job_id)

        def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
            return super().describe_many([job_id for job_id in job_ids if job_id != "job-1"])

    world = World(batch=Broken())
    for name in ("broken-1", "lost-2", "fine-3"):
        submit(new_run(name), ports=memory_ports(world.ledger, world.batch), now=NOW)
    world.lose_host("job-2")

    done = sweep(ports=world.ports, clock=lambda: after(10), has_time=lambda: True)

    assert done.failures == {"broken-1": "RuntimeError: boom"}
    assert (done.num_repairs, done.is_on_time) == (1, True)
    assert world.ledger.runs["lost-2"].submission == 2
    assert world.ledger.runs["fine-3"].state is RunState.SUBMITTED


def test_what_was_due_is_no_repair() -> None:
    world = started()
    world.give_up("job-1")
    world.hear("job-1")

    done = sweep(ports=world.ports, clock=lambda: after(60), has_time=lambda: True)

    assert world.summary == (RunState.SUBMITTED, 2)
    assert done.num_repairs == 0


def test_sweeps_without_time_do_nothing_and_the_heartbeat_stops_when_a_round_is_late() -> None:
    world = started()

    sweeps = [sweep(ports=world.ports, clock=partial(after, minute), has_time=lambda: False) for minute in (10, 30, 31)]

    assert [done.outcomes.total() for done in sweeps] == [0, 0, 0]
    assert [done.is_on_time for done in sweeps] == [True, True, False]


# Any order, loss and repetition of events.

STORY = ("lose", "lose", "give up", "lose", "complete")


def happen(world: World, what: str) -> None:
    """Something happens to the run's current job."""
    job_id = world.run.job_id
    assert job_id is not None
    number = world.run.submission
    if what == "lose":
        world.lose_host(job_id, minute=10 * number, step=number)
    elif what == "give up":
        world.give_up(job_id)
    else:
        world.complete(job_id)


def tell(events: list[tuple[int, bool]] | None) -> tuple[Run, Any]:
    """Let the story happen. `events` None: every job's event comes at once. Else only these come, each as the index of
    a job that may be long gone, perhaps twice, and the sweeper does the rest."""
    world = started()
    hints = iter(events or [])
    for part, what in enumerate(STORY):
        happen(world, what)
        minute = 100 * (part + 1)
        if events is None:
            assert world.run.job_id is not None
            world.hear(world.run.job_id, minute)
        for index, is_twice in [hint for _, hint in zip(range(3), hints, strict=False)]:
            job_ids = [*world.batch.jobs, "job-of-nobody"]
            for _ in range(1 + is_twice):
                world.hear(job_ids[index % len(job_ids)], minute)
        for sweeps in range(3):
            sweep(ports=world.ports, clock=partial(after, minute + 20 * sweeps), has_time=lambda: True)
    assert_only_forward(world.ledger)
    assert len(world.batch.requests) == len(STORY), "no submission was made twice"
    attempts = [replace(attempt, version=0) for attempt in world.ledger.attempts(RUN)]
    return replace(world.run, version=0), (attempts, world.ledger.history(RUN))


def assert_only_forward(ledger: MemoryLedger) -> None:
    for (before, earlier), (submission, later) in zip(ledger.states_seen, ledger.states_seen[1:], strict=False):
        if submission == before:
            assert later is earlier or later in SUCCESSORS[earlier]
        else:
            assert (submission, later) == (before + 1, RunState.SUBMITTING)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=15))
def test_lost_repeated_and_reordered_events_end_in_the_same_ledger_as_none_lost(
    events: list[tuple[int, bool]],
) -> None:
    run, facts = tell(events)

    assert (run, facts) == tell(None)
    assert (run.state, run.submission, run.num_stalls) == (RunState.SUCCEEDED, 5, 0)


def test_with_every_event_lost_the_sweeper_alone_ends_the_story() -> None:
    assert tell([]) == tell(None)
