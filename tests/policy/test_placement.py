from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.placement import (
    LONGEST_STANDBY_PAUSE_SECONDS,
    SHORTEST_SEGMENT_SECONDS,
    Market,
    Mode,
    Terms,
    after_shortage,
    longest_wait_seconds,
    segment,
    standby_is_due,
)

TERMS = Terms(
    fallback_after_seconds=1800,
    segment_seconds=14400,
    standby_after_seconds=900,
    standby_age_seconds=1200,
    standby_patience_seconds=1800,
)
SECONDS = st.floats(0, 10**7)
SINCE = "2026-11-23T18:00:00.000+00:00"


@given(SECONDS, st.sampled_from(Mode))
def test_a_run_that_allows_no_on_demand_never_goes_there(waited: float, mode: Mode) -> None:
    placed = after_shortage(waited_seconds=waited, since=SINCE, allows_fallback=False, mode=mode, terms=TERMS)
    assert placed.market is Market.SPOT


@given(SECONDS)
def test_a_run_waits_for_spot_as_long_as_the_environment_says(waited: float) -> None:
    placed = after_shortage(
        waited_seconds=waited, since=SINCE, allows_fallback=True, mode=Mode.BUDGET_FIRST, terms=TERMS
    )
    assert (placed.market is Market.ON_DEMAND) == (waited >= 1800)
    assert placed.reason.startswith(f"no spot capacity since {SINCE}")


@given(SECONDS)
def test_a_deadline_waits_only_until_it_is_certain_that_there_is_no_host(waited: float) -> None:
    placed = after_shortage(
        waited_seconds=waited, since=SINCE, allows_fallback=True, mode=Mode.DEADLINE_FIRST, terms=TERMS
    )
    assert (placed.market is Market.ON_DEMAND) == (waited >= 300)


def test_a_deadline_waits_no_longer_than_the_environment_says() -> None:
    assert longest_wait_seconds(Mode.DEADLINE_FIRST, replace(TERMS, fallback_after_seconds=60)) == 60


@given(st.integers(60, 10**6), st.integers(-5000, 10**6))
def test_an_attempt_is_as_long_as_limits_and_money_allow_and_never_too_short_to_be_worth_it(
    limit: int, affordable: int
) -> None:
    seconds = segment(attempt_seconds=limit, affordable_seconds=affordable, terms=TERMS)
    longest = min(limit, TERMS.segment_seconds)
    if affordable < min(SHORTEST_SEGMENT_SECONDS, longest):
        assert seconds is None
    else:
        assert seconds == min(longest, affordable)


@given(SECONDS, st.none() | SECONDS, st.integers(0, 50))
def test_standbys_come_ever_more_rarely_but_never_stop_coming(on: float, since: float | None, failed: int) -> None:
    is_due = standby_is_due(on_demand_seconds=on, since_last_seconds=since, num_failed=failed, terms=TERMS)
    assert not (is_due and on < 900)
    if on >= 900 and (since is None or since >= LONGEST_STANDBY_PAUSE_SECONDS):
        assert is_due
    if since is not None and since < 900:
        assert not is_due
