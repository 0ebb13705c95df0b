"""The model of SageMaker's mirrors is what it stands for: late, in no order, lost with its host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from spotkeeper.contract.checkpoint_layout import completion_key
from spotkeeper.trainer.checkpoint import Checkpoints
from tests.simulation.choices import Choices
from tests.simulation.faults import LATE_RECORD, STOPPED_MIRROR, Swarm
from tests.simulation.mirror import Mirrors, whole_steps
from tests.simulation.mirrored_folder import LEFTOVER, MirroredFolder
from tests.simulation.sched import Scheduler

RUN = "r1"
STOPS: Mapping[str, Any] = {"r1-1#1: its mirror": STOPPED_MIRROR}
LATE_DATA: Mapping[str, Any] = {"r1-1#1: data copied after": 600.0}


@dataclass
class Watcher:
    """Notes which checkpoints are whole at each change."""

    whole: list[list[tuple[int, int]]] = field(default_factory=list)

    def mirror_changed(self, run_id: str, whole: list[tuple[int, int]]) -> None:
        assert run_id == RUN
        self.whole.append(whole)


class Job:
    """Attempts of one run, one after the other, in which nothing but what is recorded is out of the ordinary."""

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        self.scheduler = Scheduler(lambda: False)
        self.watcher = Watcher()
        self.mirrors = Mirrors(self.watcher)
        self._choices = Choices(recorded=recorded)

    def folder(self, name: str = "r1-1#1") -> MirroredFolder:
        return MirroredFolder(
            self.mirrors,
            RUN,
            name=name,
            scheduler=self.scheduler,
            choices=self._choices,
            swarm=Swarm(),
            trace=lambda *_: None,
        )

    def after(self, seconds: float) -> dict[str, bytes]:
        self.scheduler.run(until_seconds=seconds)
        return self.mirrors.files_of(RUN)


def save(folder: MirroredFolder, step: int) -> None:
    checkpoints = Checkpoints(folder, run_id=RUN, keep=2, epoch=None)
    stored = checkpoints.write_data(step=step, chunks=[memoryview(b"weights")], total_bytes=7)
    checkpoints.commit(step=step, cause="periodic", stored=stored, state={})


def test_a_manifest_may_arrive_long_before_what_it_names() -> None:
    job = Job(LATE_DATA)
    save(job.folder(), 1)

    assert whole_steps(job.after(100.0)) == []
    assert whole_steps(job.after(700.0)) == [(1, 1)]
    assert job.watcher.whole[-1] == [(1, 1)]


def test_what_is_on_its_way_goes_with_the_host_but_for_a_leftover() -> None:
    job = Job(LATE_DATA)
    folder = job.folder()
    save(folder, 1)
    job.after(100.0)

    folder.cut_off()

    found = job.after(10_000.0)
    assert whole_steps(found) == []
    assert [key for key in found if key.startswith("data/")] == [key for key in found if key.endswith(LEFTOVER)]
    assert job.folder("r1-1#2").list("commit/") == [f"commit/{RUN}/000001-000000000001.json"]


def test_what_is_left_is_copied_when_the_container_ends() -> None:
    job = Job(LATE_DATA)
    folder = job.folder()
    save(folder, 1)

    folder.finish()

    assert whole_steps(job.after(0.0)) == [(1, 1)]


def test_what_is_removed_from_a_folder_stays_in_its_mirror() -> None:
    job = Job({})
    folder = job.folder()
    save(folder, 1)
    before = job.after(100.0)

    for key in before:
        folder.delete(key)

    assert job.after(10_000.0) == before
    assert not folder.list("")


def test_a_mirror_that_has_stopped_copies_nothing_more_not_even_in_the_end() -> None:
    job = Job({**STOPS, "r1-1#1: its mirror stops after": 0.0})
    folder = job.folder()
    job.after(1.0)
    save(folder, 1)
    folder.finish()

    assert job.after(10_000.0) == {}


@pytest.mark.parametrize(("fate", "is_there"), [({}, True), ({"r1-1#1: its mirror": LATE_RECORD}, False)])
def test_a_completion_record_may_come_when_its_job_has_ended(fate: Mapping[str, Any], is_there: bool) -> None:
    job = Job(fate)
    folder = job.folder()
    save(folder, 4)
    folder.complete(4)
    folder.finish()

    assert (completion_key(RUN) in job.after(0.0)) is is_there
    assert completion_key(RUN) in job.after(400.0)
    assert job.folder("r1-2#1").is_complete()


def test_a_record_without_its_last_checkpoint_does_not_count() -> None:
    job = Job({"r1-1#1: data copied after (2)": 600.0})
    folder = job.folder()
    save(folder, 3)
    save(folder, 4)
    folder.complete(4)
    job.after(100.0)
    folder.cut_off()

    assert completion_key(RUN) in job.mirrors.files_of(RUN)
    assert not job.folder("r1-1#2").is_complete()
