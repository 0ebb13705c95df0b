"""A sweep that has no time for everything: what has its turn, when, and what comes of a crash."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from benchmarks import open_runs
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.budget import Budget
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, JobAttempt, JobStatus
from spotkeeper.control.reservations import Tended
from spotkeeper.control.run import Interruption, Run
from spotkeeper.control.submit import submit
from spotkeeper.control.sweep import Sweep, sweep
from tests.control.fakes import NOW, MemoryBudgets, MemoryLedger, new_run
from tests.control.reconciled import RUN, World, after

USD = 1_000_000


class Noted(MemoryLedger):
    """Notes whose attempts were asked for: the sweeper looks at each run that way."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_at: list[str] = []

    def attempts(self, run_id: str) -> Any:
        self.looked_at.append(run_id)
        return super().attempts(run_id)


def with_runs(number: int, ledger: MemoryLedger | None = None, **changes: Any) -> World:
    """Return a world of so many runs at work, of which the ledger knows all."""
    world = World(ledger=ledger)
    for index in range(number):
        run_id, job_id = f"r-{index:04d}", f"job-{index + 1}"
        submit(new_run(run_id, created_at=after(index / 100), **changes), ports=world.ports, now=NOW)
        world.ledger.claim(run_id, job_id, 1)
        world.change(job_id, JobStatus.RUNNING, JobAttempt(started_at=after(1)))
        world.hear(job_id, minute=2)
    return world


def sweeping(world: World, *, minute: float, time_for: int) -> Sweep:
    """Sweep with time for so many runs and reservations."""
    left = iter(range(time_for))
    return sweep(ports=world.ports, clock=partial(after, minute), has_time=lambda: next(left, None) is not None)


def test_a_sweep_goes_on_where_the_last_stopped_until_all_runs_and_all_money_have_had_their_turn() -> None:
    ledger = Noted()
    world = with_runs(250, ledger, total_cap_microusd=100 * USD)
    ledger.looked_at.clear()

    sweeps = [sweeping(world, minute=40 + 5 * number, time_for=180) for number in range(3)]

    assert set(ledger.looked_at) == set(ledger.runs)
    assert [done.reservations[Tended.LEFT] for done in sweeps] == [100, 100, 90]
    assert all(reservation.version > 1 for reservation in world.budgets.reserved.values())
    assert all(done.is_on_time for done in sweeps)


def test_each_run_has_its_turn_once_in_a_sweep_that_has_time_for_all() -> None:
    ledger = Noted()
    world = with_runs(130, ledger)
    sweeping(world, minute=20, time_for=70)
    ledger.looked_at.clear()

    done = sweeping(world, minute=25, time_for=1000)

    assert ledger.looked_at == [f"r-{index:04d}" for index in (*range(70, 130), *range(70))]
    assert done.outcomes == {Outcome.UNCHANGED: 130}


def test_a_sweep_of_runs_is_asked_for_its_cap_once_a_page() -> None:
    class Counted(MemoryBudgets):
        asked = 0

        def get(self, holder: str) -> Budget | None:
            self.asked += 1
            return super().get(holder)

    world = with_runs(130, sweep="lr")
    budgets = Counted(world.ledger)
    world.ports = replace(world.ports, budgets=budgets)

    sweeping(world, minute=20, time_for=1000)

    assert budgets.asked == 2


def test_a_sweep_goes_on_behind_a_run_that_has_ended_since() -> None:
    ledger = Noted()
    world = with_runs(30, ledger)
    sweeping(world, minute=20, time_for=10)
    ledger.advance(ledger.runs["r-0009"], state=RunState.CANCELLED)
    ledger.looked_at.clear()

    sweeping(world, minute=25, time_for=10)

    assert ledger.looked_at == [f"r-{index:04d}" for index in range(10, 20)]


class Killed(BaseException):
    """The function is ended, as by its time limit."""


def test_a_page_that_ends_the_program_holds_up_no_other_and_has_its_turn_in_the_next_round() -> None:
    class Deadly(Noted):
        is_deadly = True

        def attempts(self, run_id: str) -> Any:
            if run_id == "r-0003" and self.is_deadly:
                raise Killed
            return super().attempts(run_id)

    ledger = Deadly()
    Deadly.is_deadly = False
    world = with_runs(150, ledger)
    Deadly.is_deadly = True
    ledger.looked_at.clear()

    for minute in (20, 25):
        with pytest.raises(Killed):
            sweeping(world, minute=minute, time_for=1000)
    assert set(ledger.looked_at) == {f"r-{index:04d}" for index in (*range(3), *range(100, 150))}

    Deadly.is_deadly = False
    sweeping(world, minute=30, time_for=1000)
    assert set(ledger.looked_at) == set(ledger.runs)


def test_money_is_looked_after_although_runs_take_all_the_time() -> None:
    world = with_runs(120, total_cap_microusd=100 * USD)
    for number in range(120):
        # Nothing of it is known, so each run needs all that there is to do.
        world.change(f"job-{number + 1}", JobStatus.RUNNABLE)

    done = sweeping(world, minute=40, time_for=150)

    assert done.reservations.total() == 100
    assert done.outcomes.total() == 50


def test_the_round_over_runs_goes_on_when_that_over_money_fails() -> None:
    world = with_runs(3)

    def broken(**_: Any) -> Iterator[Any]:
        raise Conflict("a listing that cannot be read")

    budgets: Any = type("Broken", (), {"unsettled": staticmethod(broken)})()
    done = sweep(ports=replace(world.ports, budgets=budgets), clock=partial(after, 20), has_time=lambda: True)

    assert done.failures == {"the round over reservations": "Conflict: a listing that cannot be read"}
    assert done.outcomes == {Outcome.UNCHANGED: 3}


def test_a_parked_run_is_looked_at_now_and_then_for_a_warning_that_came_late() -> None:
    ledger = Noted()
    world = World(ledger=ledger)
    world.submit()
    for job in ("job-1", "job-2", "job-3"):
        world.lose_host(job)
        world.hear(job)
    assert world.run.state is RunState.PARKED
    ledger.looked_at.clear()

    for minute in range(15, 12 * 60, 5):
        world.sweep(minute)
    looks_without_news = len(ledger.looked_at)
    ledger.record_interruption(Interruption(instance_id="i-0abc1234", warned_at=after(8)), expires_at=1)
    for minute in range(12 * 60, 18 * 60, 5):
        world.sweep(minute)

    assert 0 < looks_without_news < 141 / 4
    assert {item.cause for item in ledger.attempts(RUN)} == {"interrupted"}


def test_a_parked_run_whose_cancelling_was_cut_off_is_closed_by_the_next_sweep() -> None:
    world = World()
    world.ledger.create(new_run(state=RunState.PARKED, cancel_requested_at=NOW))

    world.sweep(5)

    assert world.run.state is RunState.CANCELLED


def test_a_run_at_work_of_which_all_is_known_costs_one_call() -> None:
    calls: list[str] = []

    class Counting(MemoryLedger):
        def get(self, run_id: str) -> Run | None:
            calls.append(f"get {run_id}")
            return super().get(run_id)

        def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
            calls.append("get many")
            return super().get_many(run_ids)

        def attempts(self, run_id: str) -> Any:
            calls.append(f"attempts of {run_id}")
            return super().attempts(run_id)

    world = with_runs(2, Counting())
    calls.clear()

    world.sweep(20)

    assert calls == ["get many", "attempts of r-0000", "attempts of r-0001"]


def completes(world: World) -> None:
    world.ledger.complete("r-0000", 1)
    finished = JobAttempt(started_at=after(1), stopped_at=after(9), exit_code=0)
    world.change("job-1", JobStatus.SUCCEEDED, finished, stopped_at=after(9))


@pytest.mark.parametrize(
    "happens",
    [
        completes,
        lambda world: world.lose_host("job-1", step=3),
        lambda world: world.change("job-1", JobStatus.RUNNABLE, JobAttempt(started_at=after(1), stopped_at=after(9))),
        lambda world: world.batch.jobs.pop("job-1"),
        lambda world: world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(1), log_stream="cpu/1")),
    ],
)
def test_a_run_to_which_something_happened_is_looked_at_by_itself(happens: Callable[[World], object]) -> None:
    world = with_runs(1)
    before = world.ledger.runs["r-0000"], world.ledger.attempts("r-0000")
    happens(world)

    world.sweep(20)

    after_it = world.ledger.runs["r-0000"], world.ledger.attempts("r-0000")
    assert before[0].state is not after_it[0].state or before[1] != after_it[1] or after_it[0].job_unknown_since


@pytest.mark.parametrize(("is_leased", "most_sweeps"), [(False, 2), (True, 3)])
def test_ten_thousand_open_runs_have_their_turn_within_the_sweeps_that_the_readme_states(
    is_leased: bool, most_sweeps: int
) -> None:
    figures = open_runs.measure(open_runs.OPEN_RUNS, is_leased=is_leased)

    assert figures["sweeps_when_nothing_happens"] <= most_sweeps
    assert figures["sweeps_after_all_events_were_lost"] <= 7
