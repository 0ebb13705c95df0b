"""Saving while training goes on: what is saved is the boundary, whatever happens to objects and processes after it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spotkeeper.trainer import memory_limit
from spotkeeper.trainer.arena import GRAIN_BYTES, SMALLEST_BYTES, Arena
from spotkeeper.trainer.capture import SMALL_BYTES, Capture
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.engine import Engine, Progress
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.restore import restored
from spotkeeper.trainer.snapshot import Snapshot, VoidError
from spotkeeper.trainer.stateful import Stateful
from spotkeeper.trainer.writer_client import WriterClient, WriterSettings

LARGE = 2 * SMALL_BYTES // 4
"""Numbers of a tensor that is too large to be cloned."""


class Trial:
    """An engine on objects, its folder, and what is in the newest checkpoint there."""

    def __init__(self, folder: Path, **objects: Stateful) -> None:
        self._store = LocalStore(folder)
        self.objects = objects
        settings = WriterSettings(checkpoint_uri=str(folder), run_id="tiny", keep=2, epoch=1, parent=None)
        self.engine = Engine(objects, settings, EventLog("tiny", 1))
        self.engine.start()

    def begin(self, step: int, *, at_once: bool = False, gradients: dict[str, Any] | None = None) -> None:
        self.engine.begin(step=step, cause="periodic", loop={"step": step}, gradients=gradients or {}, at_once=at_once)

    def saved(self) -> dict[str, Any]:
        found = Checkpoints(self._store, run_id="tiny", keep=2, epoch=1).newest_valid()
        assert found is not None
        state: dict[str, Any] = restored(found, {})
        return state["objects"]  # type: ignore[no-any-return]


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Any]:
    made: list[Trial] = []

    def make(**objects: Stateful) -> Trial:
        made.append(Trial(tmp_path / str(len(made)), **objects))
        return made[-1]

    yield make
    for trial in made:
        trial.engine.close()


def children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


class Holder:
    """An object of one's own, whose tensors nothing tells the engine about."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict


def trained(model: nn.Module, opt: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
    torch.autograd.backward(model(inputs).square().mean())
    opt.step()
    opt.zero_grad()


def test_what_an_optimizer_changes_after_the_boundary_is_not_in_the_checkpoint(trials: Any) -> None:
    model = nn.Linear(1024, 2048)
    opt = torch.optim.AdamW(model.parameters(), lr=0.1)
    trained(model, opt, torch.ones(2, 1024))
    trial = trials(model=model, opt=opt)
    weight, moment = model.weight.detach().clone(), opt.state[model.weight]["exp_avg"].clone()

    trial.begin(1)
    trained(model, opt, torch.ones(2, 1024))  # waits for the copy
    assert trial.engine.wait() is Progress.COMMITTED

    saved = trial.saved()
    assert torch.equal(saved["model"]["weight"], weight)
    assert torch.equal(saved["opt"]["state"][0]["exp_avg"], moment)
    assert not torch.equal(model.weight, weight)


def test_statistics_and_embeddings_that_a_forward_changes_are_those_of_the_boundary(trials: Any) -> None:
    norm = nn.BatchNorm1d(8)
    model = nn.Sequential(nn.Linear(8, 8), norm)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    trial = trials(model=model, opt=opt)
    assert norm.running_mean is not None
    mean = norm.running_mean.clone()

    trial.begin(1)
    trained(model, opt, torch.randn(4, 8))
    assert trial.engine.wait() is Progress.COMMITTED

    assert torch.equal(trial.saved()["model"]["1.running_mean"], mean)
    assert not torch.equal(norm.running_mean, mean)


def test_a_copy_of_what_has_changed_since_the_boundary_is_void() -> None:
    table = nn.Embedding(4, 2, max_norm=0.1)
    capture = Capture()
    capture.add_objects({"table": table})
    table(torch.arange(4))  # renormalizes its rows in the forward, before any optimizer steps

    with pytest.raises(VoidError) as raised:
        Snapshot(capture, Arena()).copy()

    assert raised.value.addresses == {table.weight.data_ptr()}


def test_a_table_that_every_forward_renormalizes_is_saved_as_it_was_at_the_boundary(trials: Any) -> None:
    table = nn.Embedding(20_000, 512, max_norm=0.1)
    trial = trials(table=table, opt=torch.optim.SGD(table.parameters(), lr=0.1))

    trial.begin(1)
    table(torch.arange(20_000))
    assert trial.engine.wait() in {Progress.VOID, Progress.COMMITTED}  # whichever came first, the copy or the forward
    with torch.no_grad():
        table.weight.add_(1)
    boundary = table.weight.detach().clone()
    trial.begin(2, at_once=True)
    table(torch.arange(20_000))

    assert trial.engine.wait() is Progress.COMMITTED
    assert torch.equal(trial.saved()["table"]["weight"], boundary)


def test_large_tensors_of_objects_of_ones_own_are_copied_before_training_goes_on(trials: Any) -> None:
    average = torch.zeros(LARGE)
    trial = trials(average=Holder(values=average))

    trial.begin(1)
    average += 1  # nobody waits before this
    assert trial.engine.wait() is Progress.COMMITTED

    assert trial.saved()["average"]["values"].sum() == 0


def test_gradients_that_are_dropped_after_the_boundary_are_saved_without_a_wait(trials: Any) -> None:
    model = nn.Linear(512, 1024)
    torch.autograd.backward(model(torch.ones(1, 512)).sum())
    gradient = model.weight.grad
    assert gradient is not None
    expected = gradient.clone()
    trial = trials(model=model)

    trial.begin(1, gradients={"model.weight": gradient})
    model.zero_grad()

    assert trial.engine.wait() is Progress.COMMITTED
    found = Checkpoints(trial._store, run_id="tiny", keep=2, epoch=1).newest_valid()
    assert found is not None
    assert torch.equal(restored(found, {})["loop"]["gradients"]["model.weight"], expected)


def test_tied_and_strided_parameters_come_back_as_the_values_they_show(trials: Any) -> None:
    first, second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    second.weight = first.weight
    turned = Holder(view=torch.arange(6.0).reshape(2, 3).T)
    trial = trials(model=nn.Sequential(first, second), turned=turned)

    trial.begin(1)
    assert trial.engine.wait() is Progress.COMMITTED

    saved = trial.saved()
    assert torch.equal(saved["model"]["0.weight"], first.weight)
    assert torch.equal(saved["model"]["1.weight"], first.weight)
    assert saved["turned"]["view"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_checkpoint_is_committed_although_the_writer_is_killed_before_it_is_asked(trials: Any) -> None:
    before = children()
    trial = trials(model=nn.Linear(4, 4))
    (writer,) = children() - before
    os.kill(writer, signal.SIGKILL)

    trial.begin(1)

    assert trial.engine.wait() is Progress.COMMITTED
    assert children() - before != {writer}


def test_a_state_larger_than_the_memory_that_is_left_goes_through_a_smaller_arena(tmp_path: Path) -> None:
    values = torch.arange(5 * SMALLEST_BYTES // 2 // 4, dtype=torch.float32)
    arena = Arena(lambda: 0)
    settings = WriterSettings(checkpoint_uri=str(tmp_path), run_id="tiny", keep=2, epoch=1, parent=None)
    writer = WriterClient(settings, arena)
    capture = Capture(borrows=False)
    capture.add_objects({"model": Holder(values=values, small=torch.tensor(3))})
    capture.add_loop({}, {})
    snapshot = Snapshot(capture, arena)
    snapshot.copy()

    assert "committed" in writer.save(snapshot, step=1, cause="final")

    assert snapshot.is_chunked
    assert arena.size_bytes == SMALLEST_BYTES
    found = Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1).newest_valid()
    assert found is not None
    saved = restored(found, {})["objects"]["model"]
    assert torch.equal(saved["values"], values)
    assert saved["small"] == 3
    writer.close()


def test_chunks_of_a_state_that_changes_meanwhile_make_no_checkpoint(tmp_path: Path) -> None:
    model = nn.Linear(1, SMALLEST_BYTES // 4, bias=False)
    arena = Arena(lambda: 0)
    writer = WriterClient(
        WriterSettings(checkpoint_uri=str(tmp_path), run_id="tiny", keep=2, epoch=1, parent=None), arena
    )
    capture = Capture()
    capture.add_objects({"model": model})
    snapshot = Snapshot(capture, arena)
    snapshot.copy()
    with torch.no_grad():
        model.weight.add_(1)

    with pytest.raises(VoidError):
        writer.save(snapshot, step=1, cause="periodic")

    assert Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1).newest_valid() is None


@pytest.mark.parametrize("room_bytes", [0, 10 * SMALLEST_BYTES], ids=["in chunks", "whole"])
def test_a_writer_that_is_fenced_before_it_has_taken_anything_says_so_each_time_it_is_asked(
    tmp_path: Path, room_bytes: int
) -> None:
    Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=2)
    arena = Arena(lambda: room_bytes)
    settings = WriterSettings(checkpoint_uri=str(tmp_path), run_id="tiny", keep=2, epoch=1, parent=None)
    before = children()
    writer = WriterClient(settings, arena)
    writer.start()
    (process,) = children() - before
    capture = Capture(borrows=False)
    capture.add_objects({"model": Holder(values=torch.ones(2 * SMALLEST_BYTES // 4))})
    snapshot = Snapshot(capture, arena)
    snapshot.copy()

    for step in (1, 2):
        reply = writer.save(snapshot, step=step, cause="periodic")
        assert reply == {"fenced": "epoch 2 has started; this attempt has epoch 1"}

    assert snapshot.is_chunked == (room_bytes == 0)
    assert process in children()
    writer.close()


def test_nothing_is_left_behind_by_an_engine_that_is_closed(trials: Any) -> None:
    before = children()
    model = nn.Linear(4, 4)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    trial = trials(model=model, opt=opt)
    trial.begin(1)

    trial.engine.close()

    assert children() == before
    assert trial.engine.poll() is Progress.COMMITTED
    trained(model, opt, torch.ones(1, 4))


def test_an_arena_grows_keeps_its_size_and_stays_small_where_memory_is_short() -> None:
    arena = Arena()
    assert arena.reserve(10) == GRAIN_BYTES
    assert arena.reserve(GRAIN_BYTES + 1) == 2 * GRAIN_BYTES
    assert arena.reserve(1) == 2 * GRAIN_BYTES
    assert arena.address % 4096 == 0
    assert Arena(lambda: 0).reserve(1 << 40) == SMALLEST_BYTES


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 200\n"}, 500),
        ({"memory.max": "max", "memory.current": "700"}, 8 * 1024),
        (
            {
                "memory/memory.limit_in_bytes": "900",
                "memory/memory.usage_in_bytes": "950",
                "memory/memory.stat": "total_inactive_file 10",
            },
            0,
        ),
        ({}, 8 * 1024),
    ],
)
def test_the_memory_that_is_left_is_that_of_the_container_or_of_the_machine(
    files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   8 kB\n")

    assert memory_limit.available_bytes(tmp_path, tmp_path / "meminfo") == expected
