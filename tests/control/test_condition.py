from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.budget import Budget, Cap, CapChange, Limits
from spotkeeper.control.condition import (
    Commit,
    checkpoint_age_seconds,
    has_honoured,
    hosts_lost,
    is_over,
    is_without_progress,
    left_percent,
    warned,
)
from spotkeeper.control.run import Attempt, Run
from tests.control.fakes import new_run

NOW = "2026-11-23T18:00:00+00:00"
CLAIMED_AT = "2026-11-23T17:00:00.000+00:00"


def running(**changes: Any) -> Run:
    held = {"job_id": "job-1", "claimed_job_id": "job-1", "claimed_attempt": 1, "claimed_at": CLAIMED_AT, "epoch": 1}
    return new_run(**{"state": RunState.RUNNING, **held, **changes})


def attempt(**changes: Any) -> Attempt:
    facts: dict[str, Any] = {
        "run_id": "digits-7fq2",
        "submission": 1,
        "attempt": 1,
        "job_id": "job-1",
        "epoch": 1,
        "claimed_at": CLAIMED_AT,
        "started_at": CLAIMED_AT,
    }
    return Attempt(**{**facts, **changes})


def taken(**changes: Any) -> Attempt:
    """An attempt that was warned and lost its host, nine and seven minutes ago."""
    facts = {"cause": "interrupted", "warned_at": "2026-11-23T17:51:00Z", "stopped_at": "2026-11-23T17:53:00.000+00:00"}
    return attempt(**{**facts, **changes})


def commit(at: str, epoch: int = 1) -> Commit:
    return Commit(epoch=epoch, step=100, at=at)


def test_a_checkpoint_ages_from_the_newest_commit() -> None:
    commits = (commit("2026-11-23T17:50:00+00:00"), commit("2026-11-23T17:20:00+00:00"))

    assert checkpoint_age_seconds(running(), [attempt()], commits, now=NOW) == 600


def test_an_attempt_that_still_starts_restores_or_compiles_has_half_an_hour_before_it_is_asked_when_it_saves() -> None:
    run, before = running(epoch=2), [commit("2026-11-23T16:00:00+00:00")]

    assert checkpoint_age_seconds(run, [], before, now="2026-11-23T17:30:00+00:00") == 0
    assert checkpoint_age_seconds(run, [attempt(epoch=2)], before, now=NOW) == 1800


def test_whether_a_run_that_never_saved_is_to_save_is_not_for_the_sweeper_to_say() -> None:
    assert checkpoint_age_seconds(running(), [attempt()], [], now=NOW) == 0


def test_nothing_is_at_risk_while_no_attempt_holds_the_run_or_its_holder_has_lost_its_host() -> None:
    waiting = running(state=RunState.WAITING)

    assert checkpoint_age_seconds(waiting, [attempt()], [], now=NOW) == 0
    assert checkpoint_age_seconds(running(), [taken()], [], now=NOW) == 0


def test_an_earlier_attempts_end_does_not_hide_that_the_holder_saves_nothing() -> None:
    run = running(claimed_attempt=2, epoch=2)

    saved = [commit("2026-11-23T17:10:00+00:00", epoch=2)]
    assert checkpoint_age_seconds(run, [taken(), attempt(attempt=2, epoch=2)], saved, now=NOW) == 3000


def test_hosts_count_as_lost_for_a_quarter_of_an_hour_with_and_without_a_warning() -> None:
    old = taken(stopped_at="2026-11-23T17:44:59+00:00")
    failed = taken(cause="failed")

    assert hosts_lost([taken(), taken(cause="host-lost", warned_at=None), old, failed, attempt()], now=NOW) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"cause": "host-lost", "warned_at": None},
        {"stopped_at": "2026-11-23T17:44:59+00:00"},
        {"epoch": None, "claimed_at": None},
        {"claimed_at": "2026-11-23T17:51:30+00:00"},
    ],
    ids=["no warning", "long ago", "never claimed", "claimed when it was too late"],
)
def test_who_had_no_warning_or_nothing_to_save_is_not_asked(changes: dict[str, Any]) -> None:
    assert warned([taken(**changes), taken()], now=NOW) == (taken(),)


def test_a_warning_in_the_second_of_the_claim_counts_as_after_it() -> None:
    quick = taken(claimed_at="2026-11-23T17:51:00.900+00:00")

    assert warned([quick], now=NOW) == (quick,)


@pytest.mark.parametrize(
    ("commits", "expected"),
    [
        # It saves nothing by choice, or had still to start, restore or compile,
        ([], True),
        ([commit("2026-11-23T17:10:00+00:00", epoch=0)], True),
        # or had just saved: there was next to nothing to save.
        ([commit("2026-11-23T17:49:00+00:00")], True),
        ([commit("2026-11-23T17:48:59+00:00")], False),
        ([commit("2026-11-23T17:51:00+00:00")], True),
        ([commit("2026-11-23T17:40:00+00:00"), commit("2026-11-23T17:52:00+00:00")], True),
        # The next attempt's checkpoints tell nothing of this one's,
        ([commit("2026-11-23T17:40:00+00:00"), commit("2026-11-23T17:58:00+00:00", epoch=2)], False),
        # unless retention has deleted what it had.
        ([commit("2026-11-23T17:58:00+00:00", epoch=2)], True),
    ],
)
def test_a_notice_is_honoured_by_a_commit_of_the_same_attempt_after_it_or_just_before(
    commits: list[Commit], expected: bool
) -> None:
    assert has_honoured(taken(), commits) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": RunState.PARKED}, True),
        ({"state": RunState.RUNNING, "num_stalls": 2}, True),
        ({"state": RunState.RUNNING, "num_stalls": 1}, False),
        ({"state": RunState.PAUSED}, False),
        ({"state": RunState.FAILED, "num_stalls": 3}, False),
    ],
)
def test_a_run_is_without_progress_when_it_is_parked_or_about_to_be(changes: dict[str, Any], expected: bool) -> None:
    assert is_without_progress(new_run(**changes)) is expected


@pytest.mark.parametrize(
    ("fallback", "total", "expected"),
    [
        (Cap(limit=50, available=50), Cap.of(10**15), 100),
        (Cap(limit=50, available=10, reserved=40), Cap.of(10**15), 20),
        (Cap(limit=50, available=40), Cap(limit=200, available=30), 15),
        (Cap(limit=50, available=-5, spent=55), Cap.of(10**15), 0),
        (Cap.of(0), Cap.of(10**15), 100),
    ],
    ids=["untouched", "reserved", "the tighter cap", "lowered below what is spent", "no cap above $0"],
)
def test_what_is_left_is_that_of_the_cap_with_least_left(fallback: Cap, total: Cap, expected: float) -> None:
    assert left_percent(Budget(holder="environment#2026-11", fallback=fallback, total=total)) == expected


def test_a_holder_is_over_when_more_is_reserved_than_a_cap_allows() -> None:
    budget = Limits(fallback_microusd=10, total_microusd=20).open("run/digits-7fq2")
    more = CapChange.reserving(11)
    crossed = Budget(holder=budget.holder, fallback=budget.fallback.changed(more), total=budget.total.changed(more))

    assert not is_over(budget)
    assert is_over(crossed)
