from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.condition import Commit
from spotkeeper.control.run import Attempt
from spotkeeper.control.survey import Survey, survey
from tests.control.fakes import NOW, MemoryLedger, memory_ports, new_run


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
    hold(ledger, "saves-not", "2026-11-23T17:30:00+00:00")
    commits = KnownCommits({"saves": (Commit(epoch=1, step=9, at="2026-11-23T17:59:00+00:00"),)})

    assert look(ledger, commits).checkpoint_age_seconds == 1800


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
    commits = KnownCommits()

    seen = look(ledger, commits)

    assert sorted(commits.asked) == ["runs", "warned"]
    assert (seen.num_hosts_lost, seen.not_honoured) == (1, ["warned"])


def test_a_run_that_cannot_be_measured_is_named_and_hides_no_other(ledger: MemoryLedger) -> None:
    hold(ledger, "broken", NOW)
    hold(ledger, "saves-not", "2026-11-23T17:30:00+00:00")

    seen = look(ledger, KnownCommits())

    assert seen.failures == {"broken": "PermissionError: AccessDenied"}
    assert (seen.checkpoint_age_seconds, seen.is_finished) == (1800, True)


def test_a_survey_without_time_for_all_says_so(ledger: MemoryLedger) -> None:
    hold(ledger, "one", NOW)
    hold(ledger, "two", NOW)
    left = [True, False]

    seen = look(ledger, KnownCommits(), has_time=lambda: left.pop(0))

    assert not seen.is_finished
