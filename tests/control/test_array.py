"""The first submissions of a sweep's members as one array job: sent once, each child taken up by its member."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import member_id
from spotkeeper.control import array
from spotkeeper.control.budget import Limits
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON, PAUSE_REASON
from spotkeeper.control.lookup import LOOK_UP_SECONDS
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.ports import Conflict, JobAttempt, JobStatus, Ports, Refused, ReplyLost, Throttled
from spotkeeper.control.reconcile import GIVE_UP_SECONDS, observe_job, reconcile
from spotkeeper.control.reservations import Tended, tend
from spotkeeper.control.run import Run
from spotkeeper.control.submit import job_request
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.reservation import AROUND_SECONDS, lease_microusd
from tests.control.fakes import (
    NOW,
    TERMS,
    MemoryBatch,
    MemoryCheckpoints,
    MemoryLedger,
    MemorySweeps,
    memory_ports,
    new_run,
)
from tests.control.reconciled import HOST, after

SIZE = 4
ARRAY = "job-1"


def member(index: int, **changes: Any) -> Run:
    variables = {**new_run().variables, "LR": f"0.{index}"}
    return new_run(member_id("lr", index), sweep="lr", array_index=index, variables=variables, **changes)


class SweepWorld:
    """Memory ports with a sweep whose members are recorded."""

    def __init__(self, batch: MemoryBatch | None = None, terms: EnvironmentTerms = TERMS, **changes: Any) -> None:
        self.ledger, self.batch = MemoryLedger(), batch or MemoryBatch()
        self.checkpoints = MemoryCheckpoints()
        self.ports: Ports = memory_ports(self.ledger, self.batch, self.checkpoints, terms=terms)
        self.sweeps = MemorySweeps(self.ledger)
        self.sweeps.create(SweepRecord(name="lr", created_at=NOW, size=SIZE, parameters=("LR",), digest="d"))
        self.sweeps.create_members([member(index, **changes) for index in range(SIZE)])

    def submit(self, *, at: str = NOW) -> str | None:
        record = self.sweeps.records["lr"]
        members = tuple(self.sweeps.members(record))
        return array.submit(record, members, ports=self.ports, sweeps=self.sweeps, now=at)

    def run(self, index: int) -> Run:
        return self.ledger.runs[member_id("lr", index)]

    def look(self, index: int, minute: float = 10) -> Outcome:
        return reconcile(member_id("lr", index), ports=self.ports, now=after(minute)).outcome

    def hear(self, index: int, minute: float = 10) -> Outcome:
        return observe_job(f"{ARRAY}:{index}", ports=self.ports, now=after(minute)).outcome

    @property
    def states(self) -> list[RunState]:
        return [self.run(index).state for index in range(SIZE)]


def test_the_exact_request_of_a_sweep() -> None:
    request = array.array_request(member(2), own=("LR",), size=SIZE)

    assert request == {
        "jobName": "lr-array",
        "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/spot",
        "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        "shareIdentifier": "research",
        "arrayProperties": {"size": 4},
        "containerOverrides": {
            "command": ["spotkeeper-exec", "--", "python", "train.py"],
            "environment": [
                {"name": "SPOTKEEPER_ATTEMPT_SECONDS", "value": "3600"},
                {"name": "SPOTKEEPER_MAX_LOST_SECONDS", "value": "900"},
                {"name": "SPOTKEEPER_SUBMISSION", "value": "1"},
                {"name": "SPOTKEEPER_SWEEP", "value": "lr"},
            ],
        },
        "timeout": {"attemptDurationSeconds": 3600},
        "tags": {
            "spotkeeper:project": "spotkeeper",
            "spotkeeper:environment": "dev",
            "spotkeeper:team": "research",
            "spotkeeper:profile": "cpu",
            "spotkeeper:market": "spot",
            "spotkeeper:sweep": "lr",
        },
        "propagateTags": True,
    }


def test_one_request_submits_all_members_and_each_takes_up_its_own_child_when_it_is_heard_of() -> None:
    world = SweepWorld()

    assert world.submit() == ARRAY
    outcomes = [world.hear(index) for index in range(SIZE)]

    assert len(world.batch.requests) == 1
    assert outcomes == [Outcome.RECORDED] * SIZE
    assert [world.run(index).job_id for index in range(SIZE)] == [f"{ARRAY}:{index}" for index in range(SIZE)]


def test_with_every_event_lost_the_sweeper_finds_the_children() -> None:
    world = SweepWorld()
    world.submit()

    assert [world.look(index) for index in range(SIZE)] == [Outcome.SUBMITTED] * SIZE

    assert [world.run(index).job_id for index in range(SIZE)] == [f"{ARRAY}:{index}" for index in range(SIZE)]
    assert len(world.batch.requests) == 1


def test_the_array_itself_is_nobodys_job() -> None:
    world = SweepWorld()
    world.submit()

    seen = observe_job(ARRAY, ports=world.ports, now=NOW)

    assert (seen.outcome, seen.run) == (Outcome.IGNORED, None)
    assert "its children have events of their own" in seen.reason


def test_a_job_that_only_bears_a_members_name_is_not_its_child_and_changes_nothing() -> None:
    world = SweepWorld()
    forged = world.batch.submit({**job_request(new_run()), "jobName": "lr-0002-1"})

    assert observe_job(forged, ports=world.ports, now=NOW).outcome is Outcome.IGNORED

    assert world.run(2).job_id is None


def test_a_lost_reply_is_resolved_by_look_up() -> None:
    world = SweepWorld(MemoryBatch(lost_replies=1))

    assert world.submit() == ARRAY

    assert len(world.batch.requests) == 1


def test_an_array_that_no_look_up_shows_is_not_sent_again_and_its_members_go_on_by_themselves() -> None:
    world = SweepWorld(MemoryBatch(lost_requests=1))
    with pytest.raises(ReplyLost):
        world.submit()
    with pytest.raises(ReplyLost):
        world.submit(at=after(5))
    assert len(world.batch.requests) == 1

    give_up = GIVE_UP_SECONDS / 60
    assert [world.look(index, give_up - 1) for index in range(SIZE)] == [Outcome.UNCHANGED] * SIZE
    assert [world.look(index, give_up) for index in range(SIZE)] == [Outcome.WAITING] * SIZE
    assert [world.look(index, give_up + 5) for index in range(SIZE)] == [Outcome.SUBMITTED] * SIZE

    assert [request["jobName"] for request in world.batch.requests[1:]] == [f"lr-000{index}-2" for index in range(SIZE)]


def test_a_child_that_batch_does_not_know_at_the_moment_is_no_reason_for_its_member_to_go_on_by_itself() -> None:
    world = SweepWorld()
    world.submit()
    known = world.batch.jobs.pop(f"{ARRAY}:2")

    assert world.look(2, GIVE_UP_SECONDS / 60) is Outcome.SUBMITTED

    assert (world.run(2).submission, world.run(2).job_id) == (1, f"{ARRAY}:2")
    world.batch.jobs[known.job_id] = known
    assert world.look(2, GIVE_UP_SECONDS / 60 + 5) is Outcome.UNCHANGED
    assert len(world.batch.requests) == 1


def test_a_member_whose_child_batch_does_not_know_at_the_moment_is_cancelled_with_its_child() -> None:
    world = SweepWorld()
    world.submit()
    del world.batch.jobs[f"{ARRAY}:2"]

    cancel("lr-0002", ports=world.ports, now=NOW)

    assert world.batch.terminated == [(f"{ARRAY}:2", CANCEL_REASON)]


def test_an_array_that_ends_before_a_member_has_no_child_of_it() -> None:
    world = SweepWorld()
    world.batch.submit(array.array_request(world.run(0), own=("LR",), size=2))

    assert world.look(3, GIVE_UP_SECONDS / 60) is Outcome.WAITING


def test_an_array_that_its_members_might_give_up_before_a_look_up_shows_it_is_not_submitted_any_more() -> None:
    world = SweepWorld(terms=capped(100_000_000))

    assert world.submit(at=after(LOOK_UP_SECONDS / 60 + 1)) is None

    assert world.batch.requests == []
    assert not any(world.ports.budgets.unsettled())
    give_up = GIVE_UP_SECONDS / 60
    assert [world.look(index, give_up) for index in range(SIZE)] == [Outcome.WAITING] * SIZE
    assert [world.look(index, give_up + 5) for index in range(SIZE)] == [Outcome.SUBMITTED] * SIZE


def test_children_that_show_up_after_their_members_have_gone_on_are_left_without_a_run() -> None:
    world = SweepWorld(MemoryBatch(lost_requests=1))
    with pytest.raises(ReplyLost):
        world.submit()
    world.look(1, GIVE_UP_SECONDS / 60)
    world.look(1, GIVE_UP_SECONDS / 60 + 5)
    late = world.batch.submit(array.array_request(member(0), own=("LR",), size=SIZE))
    before = world.run(1)

    observe_job(f"{late}:1", ports=world.ports, now=after(30))

    assert (world.run(1).job_id, world.run(1).submission) == (before.job_id, 2)


class Refusing(MemoryBatch):
    def submit(self, request: Mapping[str, Any]) -> str:
        self.requests.append(request)
        if len(self.requests) == 1:
            raise self.error
        return super().submit(request)

    error: Exception = Throttled("slow down")


def test_a_throttled_call_had_no_effect_and_is_made_again() -> None:
    world = SweepWorld(Refusing())
    with pytest.raises(Throttled):
        world.submit()

    assert world.submit() == ARRAY


def test_a_refused_array_ends_its_members_with_batchs_words() -> None:
    batch = Refusing()
    batch.error = Refused("no such queue")
    world = SweepWorld(batch)

    with pytest.raises(Refused):
        world.submit()

    assert world.states == [RunState.FAILED] * SIZE
    assert world.run(3).reason == "AWS Batch refused the job: no such queue"


def test_two_that_submit_the_same_sweep_send_one_array() -> None:
    world = SweepWorld()
    record = world.sweeps.records["lr"]
    world.submit()

    with pytest.raises(Conflict):
        array.submit(record, tuple(world.sweeps.members(record)), ports=world.ports, sweeps=world.sweeps, now=NOW)

    assert len(world.batch.requests) == 1


def test_a_sweep_whose_members_all_have_jobs_needs_no_array_when_it_is_submitted_again() -> None:
    world = SweepWorld()
    world.submit()
    for index in range(SIZE):
        world.hear(index)
    del world.batch.jobs[ARRAY]  # AWS forgets jobs after some days

    assert world.submit() is None

    assert len(world.batch.requests) == 1


def test_only_a_lost_member_is_requeued_with_its_own_parameters_and_as_a_job_of_its_own() -> None:
    world = SweepWorld()
    world.submit()
    for index in range(SIZE):
        world.hear(index)
    lost = JobAttempt(started_at=after(1), stopped_at=after(9), status_reason=HOST)
    child = f"{ARRAY}:2"
    world.batch.jobs[child] = replace(
        world.batch.jobs[child], status=JobStatus.FAILED, attempts=(lost,), status_reason=HOST, stopped_at=after(9)
    )

    assert world.hear(2) is Outcome.REQUEUED

    assert [world.run(index).submission for index in range(SIZE)] == [1, 1, 2, 1]
    request = world.batch.requests[-1]
    assert request["jobName"] == "lr-0002-2"
    assert "arrayProperties" not in request
    told = {pair["name"]: pair["value"] for pair in request["containerOverrides"]["environment"]}
    assert (told["SPOTKEEPER_RUN_ID"], told["SPOTKEEPER_SUBMISSION"], told["LR"]) == ("lr-0002", "2", "0.2")


def test_cancel_and_pause_stop_the_child_alone_known_or_not() -> None:
    world = SweepWorld()
    world.submit()
    world.hear(0)

    cancel("lr-0000", ports=world.ports, now=NOW)
    cancel("lr-0001", ports=world.ports, now=NOW)
    pause("lr-0002", ports=world.ports, now=NOW)

    assert world.batch.terminated == [
        (f"{ARRAY}:0", CANCEL_REASON),
        (f"{ARRAY}:1", CANCEL_REASON),
        (f"{ARRAY}:2", PAUSE_REASON),
    ]
    assert world.run(2).state is RunState.PAUSED
    assert resume("lr-0002", ports=world.ports, now=after(1)).submission == 2


def capped(microusd: int) -> EnvironmentTerms:
    return replace(TERMS, limits=Limits(total_microusd=microusd))


def test_members_that_no_budget_allows_rest_and_the_array_ends_before_them() -> None:
    one_hour = 2_000_000  # of the dearest spot type; a lease holds its start and end too
    world = SweepWorld(terms=capped(2 * one_hour * 2), sweep_total_cap_microusd=None)

    world.submit()

    assert world.states == [RunState.SUBMITTING, RunState.SUBMITTING, RunState.WAITING, RunState.WAITING]
    assert world.batch.requests[0]["arrayProperties"] == {"size": 2}
    leased = [len(world.ports.budgets.reservations(member_id("lr", index))) for index in range(SIZE)]
    assert leased == [1, 1, 0, 0]


def test_a_sweep_that_no_budget_allows_a_single_member_is_not_submitted() -> None:
    world = SweepWorld(sweep_total_cap_microusd=1)

    assert world.submit() is None

    assert world.states == [RunState.PARKED] * SIZE
    assert world.batch.requests == []


def test_what_a_child_cost_is_settled_from_its_own_reservation() -> None:
    world = SweepWorld(terms=capped(100_000_000))
    world.submit()
    for index in range(SIZE):
        world.hear(index)
    child = f"{ARRAY}:1"
    ran = JobAttempt(started_at=after(0), stopped_at=after(60), exit_code=0)
    world.batch.jobs[child] = replace(
        world.batch.jobs[child], status=JobStatus.SUCCEEDED, attempts=(ran,), stopped_at=after(60)
    )
    world.ledger.claim("lr-0001", child, 1)
    world.ledger.complete("lr-0001", 1)
    world.hear(1, 61)

    assert tend("lr-0001", 1, ports=world.ports, now=after(61 + LOOK_UP_SECONDS / 60)) is Tended.SETTLED

    (reservation,) = world.ports.budgets.reservations("lr-0001")
    assert reservation.spent_microusd == lease_microusd(Decimal("2.0"), 3600 + AROUND_SECONDS)
