from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from spotkeeper.contract.budgets import team_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.budget import Cap, Limits
from spotkeeper.control.condition import Commit
from spotkeeper.control.ports import Throttled
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.survey import Survey, survey
from tests.control.fakes import NOW, TERMS, MemoryBudgets, MemoryLedger, memory_ports, new_run


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@dataclass
class KnownCommits:
    by_run: dict[str, tuple[Commit, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def commits(self, run_id: str) -> tuple[Commit, ...]:
        self.asked.append(run_id)
        if run_id == "broken":
            raise PermissionError("AccessDenied")
        return self.by_run.get(run_id, ())


def look(ledger: MemoryLedger, commits: KnownCommits, has_time: Callable[[], bool] = lambda: True) -> Survey:
    return survey(ports=memory_ports(ledger=ledger), commits=commits, now=NOW, has_time=has_time)


def saved(at: str) -> tuple[Commit, ...]:
    return (Commit(epoch=1, step=9, at=f"2026-11-23T{at}:00+00:00"),)


def hold(ledger: MemoryLedger, run_id: str, claimed_at: str) -> None:
    ledger.create(
        new_run(
            run_id,
            state=RunState.RUNNING,
            job_id="job-1",
            claimed_job_id="job-1",
            claimed_attempt=1,
            claimed_at=claimed_at,
            epoch=1,
        )
    )


def test_the_run_that_would_lose_most_tells_the_age_of_checkpoints(ledger: MemoryLedger) -> None:
    hold(ledger, "saves", "2026-11-23T12:00:00+00:00")
    hold(ledger, "saves-not", "2026-11-23T12:00:00+00:00")
    commits = KnownCommits({"saves": saved("17:59"), "saves-not": saved("17:30")})

    assert look(ledger, commits).worst.checkpoint_age_seconds == 1800


def test_the_bucket_is_asked_only_about_runs_that_run_or_were_just_warned(ledger: MemoryLedger) -> None:
    hold(ledger, "runs", NOW)
    ledger.create(new_run("waits", state=RunState.WAITING, epoch=1))
    ledger.create(new_run("warned", state=RunState.WAITING, epoch=1))
    ledger.create(new_run("new"))
    ledger.record_attempt(
        Attempt(run_id="warned", submission=1, attempt=1),
        epoch=1,
        claimed_at="2026-11-23T17:00:00+00:00",
        warned_at="2026-11-23T17:50:00+00:00",
        stopped_at="2026-11-23T17:52:00+00:00",
        cause="interrupted",
    )
    commits = KnownCommits({"warned": saved("17:30")})

    seen = look(ledger, commits)

    assert sorted(commits.asked) == ["runs", "warned"]
    assert (seen.worst.num_hosts_lost, seen.not_honoured, seen.worst.num_not_honoured) == (1, ["warned"], 1)


def test_a_run_that_cannot_be_measured_is_named_and_hides_no_other(ledger: MemoryLedger) -> None:
    hold(ledger, "broken", NOW)
    hold(ledger, "saves-not", "2026-11-23T17:00:00+00:00")

    seen = look(ledger, KnownCommits({"saves-not": saved("17:30")}))

    assert seen.failures == {"broken": "PermissionError: AccessDenied"}
    assert seen.worst.checkpoint_age_seconds == 1800


def parked(ledger: MemoryLedger, *numbers: int) -> None:
    for number in numbers:
        created_at = f"2026-11-23T12:{number:02d}:00+00:00"
        ledger.create(new_run(f"run-{number}", created_at=created_at, state=RunState.PARKED))


def for_runs(number: int) -> Callable[[], bool]:
    left = [True] * number
    return lambda: bool(left) and left.pop()


def test_a_survey_without_time_for_all_goes_on_where_it_stopped_and_tells_the_last_whole_round() -> None:
    ledger, commits = MemoryLedger(), KnownCommits()
    parked(ledger, 1, 2, 3, 4, 5)

    told = [look(ledger, commits, has_time=for_runs(2)).worst.num_without_progress for _ in range(3)]
    assert told == [2, 4, 5], "of a first round what it has; it is whole with the fifth run, and another has begun"

    for number in (2, 3, 4):
        ledger.advance(ledger.runs[f"run-{number}"], state=RunState.CANCELLED)
    told = [look(ledger, commits, has_time=for_runs(2)).worst.num_without_progress for _ in range(2)]
    assert told == [2, 2], "the round of before counts no more once this one is whole"


def test_what_is_worse_now_than_in_the_last_whole_round_is_told_before_the_round_is_over() -> None:
    ledger, commits = MemoryLedger(), KnownCommits()
    hold(ledger, "young", "2026-11-23T17:59:00+00:00")
    assert look(ledger, commits).worst.num_without_progress == 0
    parked(ledger, 1)

    assert look(ledger, commits, has_time=for_runs(1)).worst.num_without_progress == 1


def test_more_runs_than_a_page_are_all_measured() -> None:
    ledger = MemoryLedger()
    for number in range(1234):
        ledger.create(new_run(f"run-{number:04d}", state=RunState.PARKED))

    assert look(ledger, KnownCommits()).worst.num_without_progress == 1234


def test_a_listing_that_cannot_be_read_hides_neither_money_nor_what_was_measured_before() -> None:
    class Unlisted(MemoryLedger):
        is_failing = False

        def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
            if self.is_failing:
                raise Throttled("slow down")
            return super().get_many(run_ids)

    ledger = Unlisted()
    parked(ledger, 1, 2)
    look(ledger, KnownCommits())
    ledger.is_failing = True

    seen = look(ledger, KnownCommits())

    assert seen.worst.num_without_progress == 2
    assert seen.failures == {"the survey": "Throttled: slow down"}


def test_the_cap_with_least_left_is_told_of_the_environment_and_of_every_team() -> None:
    ledger = MemoryLedger()
    budgets = MemoryBudgets(ledger)
    terms = replace(TERMS, team_limits={"vision": Limits(fallback_microusd=100)})
    ports = memory_ports(ledger=ledger, budgets=budgets, terms=terms)
    ledger.create(new_run("theirs", team="speech"))
    for team, available in (("vision", 60), ("speech", 30)):
        holder = team_holder(team, "2026-11")
        cap = Cap(limit=100, available=available, reserved=100 - available)
        budgets.open(replace(Limits().open(holder), fallback=cap))

    seen = survey(ports=ports, commits=KnownCommits(), now=NOW, has_time=lambda: True)

    assert (seen.budget_left_percent, seen.least_left) == (30, "team/speech#2026-11")


@pytest.mark.parametrize(
    ("num_stalls", "cause", "expected"),
    [(2, "interrupted", 1), (2, "failed", 0), (0, "interrupted", 0)],
    ids=["lost a host and stalls", "stalls for another reason", "lost a host"],
)
def test_only_a_run_that_stalls_and_has_just_lost_a_host_suffers_from_a_storm(
    ledger: MemoryLedger, num_stalls: int, cause: str, expected: int
) -> None:
    ledger.create(new_run("run", state=RunState.WAITING, epoch=1, num_stalls=num_stalls))
    ledger.record_attempt(
        Attempt(run_id="run", submission=1, attempt=1), stopped_at="2026-11-23T17:52:00+00:00", cause=cause
    )

    assert look(ledger, KnownCommits()).worst.num_stalled_by_losses == expected
