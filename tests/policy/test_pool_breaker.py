from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.pool_breaker import LONGEST_PAUSE_SECONDS, BreakerState, PoolBreaker


def died(breaker: PoolBreaker, now: float, age: float = 60) -> PoolBreaker:
    return breaker.after_end(now, age_seconds=age, is_preempted=True)


def opened() -> PoolBreaker:
    return died(died(died(PoolBreaker(), 0), 100), 200)


def test_three_young_deaths_in_a_row_open_it() -> None:
    two = died(died(PoolBreaker(), 0), 100)

    assert two.allows(101)
    assert not died(two, 200).allows(201)
    assert died(two, 200).reason(201) == "3 machines in a row were taken young; a trial in 1799 s"


def test_a_machine_that_lived_between_starts_the_count_anew() -> None:
    breaker = died(died(PoolBreaker(), 0), 100).after_end(5000, age_seconds=4000, is_preempted=True)

    assert died(died(breaker, 5100), 5200).allows(5201)


def test_after_the_pause_one_machine_is_let_in_on_trial() -> None:
    breaker = opened()

    assert breaker.state(1999) is BreakerState.OPEN
    assert breaker.state(2000) is BreakerState.HALF_OPEN
    assert breaker.allows(2000)
    assert not breaker.after_start(2000).allows(2001)


def test_a_trial_that_lives_closes_it_and_one_that_dies_opens_it_for_twice_as_long() -> None:
    trial = opened().after_start(2000)

    assert trial.after_proof().state(4000) is BreakerState.CLOSED
    again = died(trial, 2060)
    assert again.pause_seconds == 3600
    assert again.state(2060 + 3599) is BreakerState.OPEN
    assert again.allows(2060 + 3600)


def test_a_trial_that_we_stop_ourselves_leaves_room_for_the_next() -> None:
    trial = opened().after_start(2000).after_end(2010, age_seconds=10, is_preempted=False)

    assert trial.allows(2011)


def test_a_machine_from_before_that_dies_while_it_is_open_does_not_prolong_it() -> None:
    breaker = opened()

    assert died(breaker, 300).opened_at == breaker.opened_at


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 3600), st.booleans()), max_size=40))
def test_whatever_happens_there_is_a_trial_again_within_the_longest_pause(
    ends: list[tuple[float, float, bool]],
) -> None:
    breaker, now = PoolBreaker(), 0.0
    for later, age, is_preempted in ends:
        now += later
        if breaker.allows(now):
            breaker = breaker.after_start(now)
            breaker = breaker.after_end(now, age_seconds=age, is_preempted=is_preempted)

    assert breaker.allows(now + LONGEST_PAUSE_SECONDS)
    assert breaker.pause_seconds <= LONGEST_PAUSE_SECONDS
