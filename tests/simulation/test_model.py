"""The model is what it stands for: expressions as DynamoDB evaluates them, retry rules as deployed, time as told."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.contract.ledger import RunState, claim_request, completion_request
from spotkeeper.control import submission_rate, sweep
from spotkeeper.control.array import array_request
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.aws.sweeps import DynamoDBSweeps
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, JobStatus
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.sweep_record import SweepRecord
from tests.control.fakes import NOW, MemoryLedger, memory_ports, new_run
from tests.control.ledger_table import TABLE, dynamodb
from tests.simulation.batch import ATTEMPTS, RETRY_RULES, SPOT_QUEUE, Batch, Hooks
from tests.simulation.budget_table import BudgetTable
from tests.simulation.choices import Choices
from tests.simulation.expressions import ConditionFailed
from tests.simulation.fakes import LedgerTable
from tests.simulation.faults import Swarm
from tests.simulation.mutants import control
from tests.simulation.sched import Scheduler, Stopped
from tests.simulation.sweep_table import SweepTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="module")
def client() -> Iterator["DynamoDBClient"]:
    with dynamodb() as made:
        yield made


class Unwatched:
    def money_changed(self, table: BudgetTable) -> None:
        pass

    def run_changed(self, before: Run | None, after: Run, writer: str) -> None:
        pass

    def attempt_changed(self, before: Attempt, after: Attempt, writer: str) -> None:
        pass

    def sweep_marked(self, sweep: SweepRecord) -> None:
        pass

    def slot_taken(self, second: int, num_taken: int, writer: str) -> None:
        pass

    def start_recorded(self, queue: str, at: str) -> None:
        pass

    def job_requested(self, name: str, writer: str) -> None:
        pass

    def job_stopped(self, job_id: str, writer: str) -> None:
        pass

    def object_created(self, key: str, writer: str) -> None:
        pass


JOBS = st.sampled_from([None, "job-1", "job-2"])
RUNS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(RunState),
        "submission": st.integers(1, 2),
        "epoch": st.integers(0, 2),
        "job_id": JOBS,
        "claimed_job_id": JOBS,
        "claimed_attempt": st.sampled_from([None, 1, 2, 10]),
        "cancel_requested_at": st.sampled_from([None, NOW]),
        "pause_requested_at": st.sampled_from([None, None, NOW]),
    }
)
WISHES = st.one_of(
    st.builds(
        lambda submission, job_id, attempt: {"submission": submission, "job_id": job_id, "attempt": attempt},
        st.integers(1, 2),
        st.sampled_from(["job-1", "job-2"]),
        st.sampled_from([1, 2, 9, 10]),
    ),
    st.builds(lambda epoch, step: {"epoch": epoch, "step": step}, st.integers(0, 2), st.sampled_from([None, 7])),
)


def request_of(wish: dict[str, Any], run_id: str) -> dict[str, Any]:
    if "epoch" in wish:
        return completion_request(table=TABLE, run_id=run_id, completed_at=NOW, **wish)
    return claim_request(table=TABLE, run_id=run_id, claimed_at=NOW, **wish)


numbers = iter(range(1_000_000))
LATER = "2026-11-23T18:05:00+00:00"


@settings(max_examples=40, deadline=None)
@given(facts=RUNS, wishes=st.lists(WISHES, min_size=1, max_size=4))
def test_conditional_writes_do_what_dynamodb_does(
    client: "DynamoDBClient", facts: dict[str, Any], wishes: list[dict[str, Any]]
) -> None:
    run = new_run(f"digits-{next(numbers)}", **facts)
    ledger, table = DynamoDBLedger(client, TABLE), LedgerTable(Unwatched())
    ledger.create(run)
    table.create(run, "test")
    for wish in wishes:
        request = request_of(wish, run.run_id)
        try:
            client.update_item(**request)
            is_accepted = True
        except client.exceptions.ConditionalCheckFailedException:
            is_accepted = False
        try:
            table.update_run(run.run_id, request, "test")
            assert is_accepted
        except ConditionFailed:
            assert not is_accepted
        assert table.runs[run.run_id] == ledger.get(run.run_id)


def test_nobody_claims_a_run_that_is_not_there() -> None:
    request = claim_request(table=TABLE, run_id="r1", submission=1, job_id="job-1", attempt=1, claimed_at=NOW)
    with pytest.raises(ConditionFailed):
        LedgerTable(Unwatched()).update_run("r1", request, "test")


def test_batch_retries_by_the_rules_that_are_deployed() -> None:
    from stacks.constructs import training_job  # the CDK takes seconds to import

    assert (training_job.RETRY_RULES, training_job.ATTEMPTS) == (RETRY_RULES, ATTEMPTS)


def test_programs_take_turns_in_the_order_of_virtual_time() -> None:
    scheduler, said = Scheduler(), []

    def speak(word: str, seconds: float) -> None:
        for _ in range(2):
            scheduler.pause(seconds)
            said.append((scheduler.now_seconds, word))

    scheduler.start("slow", lambda: speak("slow", 3.0))
    scheduler.start("quick", lambda: speak("quick", 1.0))
    scheduler.run(until_seconds=10.0)

    assert said == [(1.0, "quick"), (2.0, "quick"), (3.0, "slow"), (6.0, "slow")]


def test_a_stopped_program_ends_where_it_stands_and_never_goes_on() -> None:
    scheduler, said = Scheduler(), []

    def work() -> None:
        try:
            scheduler.pause(5.0)
            said.append("went on")
        except Stopped:
            said.append("stopped")
            scheduler.pause(1.0)
            said.append("came back")

    program = scheduler.start("worker", work)
    scheduler.after(2.0, lambda: scheduler.stop(program))
    scheduler.run(until_seconds=10.0)

    assert said == ["stopped"]
    assert program.has_ended


def test_what_runs_on_a_schedule_alone_does_not_keep_the_world_going() -> None:
    scheduler, ran = Scheduler(), []

    def sweep() -> None:
        ran.append(scheduler.now_seconds)
        scheduler.after(300.0, sweep, background=True)

    sweep()
    scheduler.after(1000.0, lambda: None)
    scheduler.run(until_seconds=1e9)

    assert ran == [0.0, 300.0, 600.0, 900.0]


def test_what_runs_on_a_schedule_keeps_the_world_going_while_it_has_something_to_do() -> None:
    ran: list[float] = []
    scheduler = Scheduler(is_quiet=lambda: len(ran) == 5)

    def sweep() -> None:
        ran.append(scheduler.now_seconds)
        scheduler.after(300.0, sweep, background=True)

    sweep()
    scheduler.run(until_seconds=1e9)

    assert ran == [0.0, 300.0, 600.0, 900.0, 1200.0]


@pytest.mark.parametrize("is_crowded", [True, False])
def test_the_slots_of_a_second_are_counted_as_dynamodb_counts_them(client: "DynamoDBClient", is_crowded: bool) -> None:
    second = next(numbers)
    ledger, table = DynamoDBLedger(client, TABLE), LedgerTable(Unwatched())
    if is_crowded:
        for team in [f"others-{number // 16}" for number in range(32)]:
            assert ledger.take_submission_slot(second=second, team=team, limit=32, team_limit=16)

    told = [ledger.take_submission_slot(second=second, team="research", limit=32, team_limit=16) for _ in range(22)]

    modelled = [
        table.take_slot(second, "research", limit=32, team_limit=16, is_crowded=is_crowded, writer="test")
        for _ in range(22)
    ]
    assert modelled == told == ([False] * 22 if is_crowded else [True] * 16 + [False] * 6)


def test_a_sweep_is_marked_as_sent_as_dynamodb_marks_it(client: "DynamoDBClient") -> None:
    unsent = SweepRecord(name=f"sweep-{next(numbers)}", created_at=NOW, size=2, parameters=("LR",), digest="d")
    sweeps, table = DynamoDBSweeps(client, TABLE), SweepTable(LedgerTable(Unwatched()), Unwatched())
    sweeps.create(unsent)
    table.create(unsent)
    sent = replace(unsent, sent_at=LATER)

    for read, at in ((sent, None), (unsent, LATER), (unsent, NOW), (sent, None), (sent, None)):
        try:
            told = sweeps.mark_sent(read, at=at)
        except Conflict:
            with pytest.raises(Conflict):
                table.mark_sent(read, at)
        else:
            assert table.mark_sent(read, at) == told
        assert table.records[unsent.name] == sweeps.get(unsent.name)


def new_array(size: int) -> tuple[Scheduler, Batch]:
    """Return Batch's model with an array job of programs that fail on the spot."""
    scheduler = Scheduler()
    hooks = Hooks(
        start_container=lambda batch, job, number: scheduler.after(5.0, lambda: batch.exited(job, number, 3)),
        job_created=lambda _: None,
        job_changed=lambda _: None,
        host_noticed=lambda *_: None,
        job_withdrawn=lambda _: None,
    )
    batch = Batch(scheduler, Choices(recorded={}), Swarm(), lambda *_: None, hooks)
    member = new_run("lr-0000", sweep="lr", array_index=0, job_queue=SPOT_QUEUE)
    batch.submit(array_request(member, own=(), size=size))
    return scheduler, batch


def test_an_array_is_listed_alone_and_ends_when_all_its_children_have() -> None:
    scheduler, batch = new_array(2)
    assert [job.job_id for job in batch.named("lr-array", SPOT_QUEUE, settled=False)] == ["lr-array.a"]

    batch.terminate("lr-array.a:0", "as wished")
    scheduler.run(until_seconds=10.0)
    array, ended, going_on = (batch.describe(f"lr-array.a{suffix}") for suffix in ("", ":0", ":1"))
    assert array is not None
    assert ended is not None
    assert going_on is not None
    assert (array.status, array.array_size, array.array_index) == (JobStatus.PENDING, 2, None)
    assert (ended.status, ended.array_size, ended.array_index) == (JobStatus.FAILED, None, 0)
    assert (going_on.name, going_on.status, going_on.array_index) == ("lr-array", JobStatus.RUNNABLE, 1)

    scheduler.run(until_seconds=1e6)
    assert [batch.jobs[job_id].status for job_id in ("lr-array.a", "lr-array.a:1")] == [JobStatus.FAILED] * 2
    assert batch.jobs["lr-array.a"].attempts == []


def test_a_copy_of_the_control_functions_calls_its_own_patched_ones() -> None:
    copies = control({submission_rate: (("SUBMISSIONS_PER_SECOND: Final = 32", "SUBMISSIONS_PER_SECOND: Final = 0"),)})

    def swept_with(sweep: ModuleType) -> Mapping[Outcome, int]:
        ledger = MemoryLedger()
        ledger.create(new_run(state=RunState.WAITING))
        outcomes = sweep.sweep(ports=memory_ports(ledger), clock=lambda: NOW, has_time=lambda: True).outcomes
        return {Outcome(outcome): count for outcome, count in outcomes.items()}

    assert swept_with(copies["sweep"]) == {Outcome.DEFERRED: 1}
    assert swept_with(sweep) == {Outcome.SUBMITTED: 1}
