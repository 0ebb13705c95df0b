import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.trainer.goodput import Activity, Goodput


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def goodput(clock: Clock) -> Goodput:
    return Goodput(clock)


def spend(goodput: Goodput, clock: Clock, activity: Activity, seconds: float) -> None:
    goodput.enter(activity)
    clock.now += seconds
    goodput.enter(Activity.OTHER)


def test_a_save_that_blocks_costs_its_stall(goodput: Goodput, clock: Clock) -> None:
    spend(goodput, clock, Activity.STEP, 10)
    goodput.enter(Activity.STALL)
    goodput.begin_save()
    clock.now += 2

    assert goodput.end_save(is_committed=True) == 2
    told = goodput.counters()
    assert (told["num_steps"], told["num_saves"]) == (1, 1)
    assert (told["seconds"]["step"], told["seconds"]["stall"], told["seconds"]["save"]) == (10, 2, 2)


def test_a_save_beside_the_training_costs_what_it_slows_steps_down(goodput: Goodput, clock: Clock) -> None:
    for _ in range(20):
        spend(goodput, clock, Activity.STEP, 1)
    goodput.enter(Activity.STALL)
    goodput.begin_save()
    clock.now += 0.25
    for seconds in (1.5, 1.25, 1):
        spend(goodput, clock, Activity.STEP, seconds)

    assert goodput.end_save(is_committed=True) == 0.25 + 0.75
    assert goodput.counters()["seconds"]["slowdown"] == 0.75
    goodput.begin_save()
    spend(goodput, clock, Activity.STEP, 1)
    assert goodput.end_save(is_committed=True) == 0


def test_without_undisturbed_steps_to_compare_with_only_the_stall_is_known(goodput: Goodput, clock: Clock) -> None:
    goodput.begin_save()
    spend(goodput, clock, Activity.STEP, 60)

    assert goodput.end_save(is_committed=True) == 0


def test_a_checkpoint_is_as_old_as_its_snapshot_not_as_its_commit(goodput: Goodput, clock: Clock) -> None:
    clock.now += 100
    assert goodput.checkpoint_age_seconds() == 100
    goodput.begin_save()
    clock.now += 30
    assert goodput.checkpoint_age_seconds() == 130
    goodput.end_save(is_committed=True)
    assert goodput.checkpoint_age_seconds() == 30


def test_a_save_that_failed_makes_no_checkpoint_younger(goodput: Goodput, clock: Clock) -> None:
    goodput.begin_save()
    clock.now += 30
    goodput.end_save(is_committed=False)

    assert goodput.checkpoint_age_seconds() == 30
    assert goodput.counters()["num_saves"] == 0


def test_two_saves_at_once_are_a_mistake(goodput: Goodput) -> None:
    with pytest.raises(RuntimeError, match="no save is in flight"):
        goodput.end_save(is_committed=True)
    goodput.begin_save()
    with pytest.raises(RuntimeError, match="a save is in flight"):
        goodput.begin_save()


@given(st.lists(st.tuples(st.sampled_from(Activity), st.integers(0, 1000))))
def test_every_second_counts_once(spent: list[tuple[Activity, int]]) -> None:
    clock = Clock()
    goodput = Goodput(clock)
    for activity, seconds in spent:
        goodput.enter(activity)
        clock.now += seconds

    told = goodput.counters()["seconds"]
    assert sum(told[activity] for activity in Activity) == sum(seconds for _, seconds in spent)
