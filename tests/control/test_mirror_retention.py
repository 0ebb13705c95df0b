"""Between two jobs of a run without network its mirror loses old checkpoints, and at no other moment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.condition import Commit
from spotkeeper.control.mirror_retention import MIRROR_CLEARED, MOST_PAGES
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.ports import Conflict, JobStatus
from spotkeeper.control.reconcile import observe_job
from tests.control.reconciled import RUN, after
from tests.control.test_isolated import BEGUN, DONE, INTERRUPTED, Isolated, MemoryMirrors, job
from tests.control.training import training_run

MANIFESTS, DATA = ("commit/1", "commit/2"), ("data/1", "data/2")


@dataclass
class ClearedMirrors(MemoryMirrors):
    pages: list[Sequence[str]] = field(default_factory=lambda: [MANIFESTS, DATA])
    deleted: list[str] = field(default_factory=list)
    asked_to_keep: list[int] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    at_delete: Callable[[], object] = lambda: None

    def outlived(self, run_id: str, *, keep: int) -> Iterator[Sequence[str]]:
        assert run_id == RUN
        self.asked_to_keep.append(keep)
        yield from [page for page in self.pages if not set(page) & set(self.deleted)]

    def delete(self, run_id: str, keys: Sequence[str]) -> Mapping[str, str]:
        assert run_id == RUN
        self.at_delete()
        self.deleted += [key for key in keys if key not in self.refused]
        return {key: why for key, why in self.refused.items() if key in keys}


@dataclass
class OvertakenMirrors(ClearedMirrors):
    """Lets somebody else do all that follows between this caller's look and its write."""

    overtake: Callable[[], object] = lambda: None

    def newest_whole(self, run_id: str) -> Commit | None:
        self.overtake()
        return super().newest_whole(run_id)


class Cleared(Isolated):
    def __init__(self) -> None:
        super().__init__()
        self.cleared = ClearedMirrors()
        self.mirrors = self.cleared
        self.ports = replace(self.ports, mirrors=self.cleared)

    def ends(self, submission: int = 1, *, minute: float = 20) -> None:
        """Let a job reach its time limit, with a newer checkpoint than the one before."""
        self.arrives(step=10 * submission, minute=minute - 1)
        ended = {"status_reason": "MaxRuntimeExceeded", "stopped_at": after(minute)}
        done = replace(DONE, stopped_at=after(minute), exit_code=None)
        self.change(job(submission), JobStatus.FAILED, done, **ended)

    def told(self) -> list[str]:
        return [event.message for event in self.ledger.history(RUN) if event.kind == MIRROR_CLEARED]


@pytest.fixture
def world() -> Cleared:
    return Cleared()


def test_old_checkpoints_go_once_the_next_intent_is_recorded_and_before_its_job_is_asked_for(world: Cleared) -> None:
    seen: list[tuple[RunState, int, int]] = []
    world.cleared.at_delete = lambda: seen.append((*world.summary, len(world.batch.requests)))
    world.ends()

    world.hear(job(), minute=21)

    assert seen == [(RunState.SUBMITTING, 2, 1)] * 2
    assert world.cleared.deleted == [*MANIFESTS, *DATA]
    assert world.cleared.asked_to_keep == [DEFAULT_KEEP]
    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.told() == ["before submission 2: objects of older checkpoints deleted from its mirror: 4"]


def test_the_sweeper_does_it_too_where_the_event_is_lost(world: Cleared) -> None:
    world.ends()

    world.sweep(26)

    assert world.cleared.deleted == [*MANIFESTS, *DATA]


def test_nothing_goes_while_a_job_may_mirror(world: Cleared) -> None:
    told = [
        (JobStatus.STARTING, ()),
        (JobStatus.RUNNING, (BEGUN,)),
        (JobStatus.RUNNABLE, (INTERRUPTED,)),
        (JobStatus.RUNNING, (INTERRUPTED, replace(BEGUN, started_at=after(6)))),
    ]
    for number, (status, attempts) in enumerate(told):
        world.change(job(), status, *attempts)
        world.hear(job(), minute=7 + number)
        world.sweep(7 + number)

    assert world.cleared.asked_to_keep == []


def test_nothing_goes_before_the_first_job_nor_after_the_last(world: Cleared) -> None:
    assert world.cleared.asked_to_keep == []
    world.exits_0()
    world.arrives_complete()

    world.hear(job(), minute=21)

    assert world.run.state is RunState.SUCCEEDED
    assert world.cleared.asked_to_keep == []


def test_a_run_that_is_resumed_by_a_person_is_cleared_as_well(world: Cleared) -> None:
    pause(RUN, ports=world.ports, now=after(5))
    world.ends()
    world.hear(job(), minute=21)
    assert world.run.state is RunState.PAUSED
    assert world.cleared.asked_to_keep == []

    resume(RUN, ports=world.ports, now=after(22))

    assert world.cleared.deleted == [*MANIFESTS, *DATA]


@pytest.mark.parametrize("is_known", [True, False])
def test_nothing_goes_while_the_job_before_is_not_described_as_ended(world: Cleared, is_known: bool) -> None:
    pause(RUN, ports=world.ports, now=after(5))
    world.ends()
    world.hear(job(), minute=21)
    ended = world.batch.jobs.pop(job())
    if is_known:
        world.batch.jobs[job()] = replace(ended, status=JobStatus.RUNNING, stopped_at=None)

    resume(RUN, ports=world.ports, now=after(22))

    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.cleared.asked_to_keep == []


def test_nothing_more_goes_once_somebody_else_has_moved_the_run(world: Cleared) -> None:
    world.cleared.at_delete = lambda: pause(RUN, ports=world.ports, now=after(21))
    world.ends()

    world.hear(job(), minute=21)

    assert world.cleared.deleted == list(MANIFESTS)


def test_of_two_who_see_the_same_end_only_the_one_that_records_the_intent_deletes(world: Cleared) -> None:
    world.ends()
    slow = OvertakenMirrors(overtake=lambda: world.hear(job(), minute=21))

    with pytest.raises(Conflict):
        observe_job(job(), ports=replace(world.ports, mirrors=slow), now=after(21))

    assert world.cleared.deleted == [*MANIFESTS, *DATA]
    assert slow.asked_to_keep == []
    assert len(world.batch.requests) == 2


def test_what_is_refused_holds_nothing_up_is_told_and_tried_again_at_the_next_start(world: Cleared) -> None:
    world.cleared.refused = {MANIFESTS[1]: "AccessDenied: Access Denied"}
    world.ends()
    world.hear(job(), minute=21)
    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.cleared.deleted == [MANIFESTS[0]], "what lies behind a manifest stays as long as that"
    (told,) = world.told()
    assert told.endswith("mirror: 1; the others stay for now: refused: 1, as commit/2: AccessDenied: Access Denied")

    world.cleared.refused, world.cleared.pages = {}, [MANIFESTS[1:], DATA]
    world.ends(2, minute=40)
    world.hear(job(2), minute=41)

    assert world.cleared.deleted == [*MANIFESTS, *DATA]
    assert world.summary == (RunState.SUBMITTED, 3)


def test_a_store_that_does_not_answer_holds_nothing_up(world: Cleared) -> None:
    def fail() -> None:
        raise ConnectionError("no answer")

    world.cleared.at_delete = fail
    world.ends()

    world.hear(job(), minute=21)

    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.told()[0].endswith("the others stay for now: ConnectionError: no answer")


def test_one_start_deletes_a_bounded_number_of_pages(world: Cleared) -> None:
    world.cleared.pages = [(f"data/{number}",) for number in range(MOST_PAGES + 1)]
    world.ends()

    world.hear(job(), minute=21)

    assert len(world.cleared.deleted) == MOST_PAGES


def test_a_run_with_a_network_has_no_mirror_to_clear(world: Cleared) -> None:
    world.ledger.runs.clear()
    world.batch.jobs.clear()
    world.submit(training_run())
    world.checkpoints.steps[RUN] = 10
    stopped = {"status_reason": "MaxRuntimeExceeded", "stopped_at": after(20)}
    world.change(job(), JobStatus.FAILED, replace(DONE, exit_code=None), **stopped)

    world.hear(job(), minute=21)

    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.cleared.asked_to_keep == []
