"""Notices in the middle of something long: what is resumed is the beginning of that step, to the bit."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.engine import Engine, Progress
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.mid_step import MidStepSaves
from spotkeeper.trainer.notice import NoticeWatch
from spotkeeper.trainer.restore import restored
from spotkeeper.trainer.run import Run
from spotkeeper.trainer.signal_wakeup import SignalWakeup
from spotkeeper.trainer.stateful import Stateful
from spotkeeper.trainer.writer_client import WriterSettings
from tests.trainer.conftest import clean_environ
from tests.trainer.fake_imds import FakeImds
from tests.trainer.program import running
from tests.trainer.test_imds import wait_until
from tests.trainer.test_preemption import announce, trained
from tests.trainer.tiny_training import Noisy

PROGRAM = ["-m", "tests.trainer.long_steps"]


def environ(folder: Path, **variables: str) -> dict[str, str]:
    return clean_environ(
        SPOTKEEPER_URI=str(folder), SPOTKEEPER_RUN_ID="tiny", SPOTKEEPER_PROGRESS_SECONDS="1000", **variables
    )


def finish(folder: Path, **variables: str) -> int:
    """Train to the end; return the step at which that began."""
    with running([*PROGRAM, "none"], environ(folder, **variables)) as program:
        assert program.end() == 0, program.other_output
    step: int = program.lines[0]["step"]
    return step


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert finish(folder) == 0
    return trained(folder)


@pytest.mark.parametrize(("moment", "step"), [("first", 0), ("warm-up", 1), ("evaluation", 10)])
def test_a_host_that_goes_in_the_middle_of_a_step_costs_that_step_alone_and_no_bit(
    moment: str, step: int, undisturbed: tuple[bytes, Any], tmp_path: Path, imds: FakeImds
) -> None:
    with running([*PROGRAM, moment], environ(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint)) as program:
        program.wait_to_hear("busy")
        announce(imds, 60)
        committed = program.wait_for("committed")  # and then it is killed

    assert (committed["step"], committed["cause"]) == (step, "notice")
    assert finish(tmp_path) == step
    assert trained(tmp_path) == undisturbed


def test_a_signal_that_comes_in_a_long_call_of_c_code_is_answered_by_a_save_too(
    undisturbed: tuple[bytes, Any], tmp_path: Path
) -> None:
    with running([*PROGRAM, "in-c"], environ(tmp_path)) as program:
        program.wait_to_hear("busy")
        program.process.send_signal(signal.SIGTERM)
        committed = program.wait_for("committed")

    assert (committed["step"], committed["cause"]) == (0, "signal")
    assert finish(tmp_path) == 0
    assert trained(tmp_path) == undisturbed


def test_an_evaluation_before_a_batch_of_a_stream_is_repeated_with_that_very_batch(
    tmp_path: Path, imds: FakeImds
) -> None:
    assert finish(tmp_path / "undisturbed", DATASET="stream") == 0
    variables = environ(tmp_path / "cut", AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint, DATASET="stream")
    with running([*PROGRAM, "evaluation"], variables) as program:
        program.wait_to_hear("busy")
        announce(imds, 60)
        program.wait_for("committed")

    assert finish(tmp_path / "cut", DATASET="stream") == 10
    assert trained(tmp_path / "cut") == trained(tmp_path / "undisturbed")


class Kept:
    """An engine that keeps the boundary of step 1, and its folder."""

    def __init__(self, folder: Path, **objects: Stateful) -> None:
        self.store = LocalStore(folder)
        settings = WriterSettings(checkpoint_uri=str(folder), run_id="tiny", keep=2, epoch=1, parent=None)
        self.engine = Engine(objects, settings, EventLog("tiny", 1))
        self.engine.start()

    def saved(self) -> dict[str, Any] | None:
        found = Checkpoints(self.store, run_id="tiny", keep=2, epoch=1).newest_valid()
        return restored(found, {})["objects"] if found is not None else None


def objects() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def backward(model: nn.Module) -> None:
    torch.autograd.backward(model(torch.randn(8, 4)).square().mean())


def test_what_a_forward_and_a_backward_have_changed_is_saved_as_it_was_at_the_boundary(tmp_path: Path) -> None:
    model, opt = objects()
    kept = Kept(tmp_path, model=model, opt=opt)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert kept.engine.keep(step=1, loop={}, gradients={})
    backward(model)

    assert kept.engine.save_kept("notice")

    saved = kept.saved()
    assert saved is not None
    assert all(torch.equal(saved["model"][name], value) for name, value in before.items())
    assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])
    kept.engine.close()


def test_once_an_optimizer_has_begun_to_step_the_boundary_is_not_saved_any_more(tmp_path: Path) -> None:
    model, opt = objects()
    kept = Kept(tmp_path, model=model, opt=opt)
    kept.engine.keep(step=1, loop={}, gradients={})
    backward(model)
    opt.step()

    assert kept.engine.save_kept("notice")

    assert not kept.engine.keeps_boundary
    assert kept.saved() is None
    kept.engine.close()


def test_a_boundary_that_was_changed_other_than_by_an_optimizer_is_not_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, opt = objects()
    kept = Kept(tmp_path, model=model, opt=opt)
    kept.engine.keep(step=1, loop={}, gradients={})
    with torch.no_grad():
        next(model.parameters()).add_(1)

    assert kept.engine.save_kept("notice")

    assert kept.saved() is None
    assert "this step has changed the state already" in capsys.readouterr().out
    assert kept.engine.wait() is Progress.VOID
    kept.engine.close()


def test_a_boundary_is_saved_once_and_after_a_save_that_is_under_way(tmp_path: Path) -> None:
    model, opt = objects()
    kept = Kept(tmp_path, model=model, opt=opt)
    kept.engine.begin(step=0, cause="periodic", loop={}, gradients={})
    kept.engine.keep(step=1, loop={}, gradients={})
    wait_until(lambda: kept.engine.save_kept("notice"))
    assert kept.engine.save_kept("notice")

    assert [kept.engine.wait(), kept.engine.ended_step] == [Progress.COMMITTED, 0]
    assert [kept.engine.wait(), kept.engine.ended_step] == [Progress.COMMITTED, 1]
    assert kept.engine.ended_in_mid_step
    assert kept.engine.wait() is Progress.NONE
    kept.engine.close()


def test_a_save_that_the_store_refuses_may_be_tried_again(tmp_path: Path) -> None:
    model, opt = objects()
    kept = Kept(tmp_path, model=model, opt=opt)
    kept.engine.keep(step=1, loop={}, gradients={})
    data = tmp_path / "data"
    data.write_text("in the way")
    assert not kept.engine.save_kept("notice")
    data.unlink()

    assert kept.engine.save_kept("notice")
    assert kept.saved() is not None
    kept.engine.close()


class Memory:
    """An object of one's own with a large tensor."""

    def __init__(self) -> None:
        self.values = torch.zeros(1 << 20)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = state_dict["values"]


@pytest.mark.parametrize(
    ("reason", "gradients"),
    [("not everything that is trained", {}), ("large tensors", {}), ("zero_grad", {"model.0.weight": torch.ones(1)})],
)
def test_why_a_boundary_is_not_kept_is_said_once_where_steps_are_long(
    reason: str, gradients: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, opt = objects()
    parts: dict[str, Stateful] = {"model": model, "opt": opt}
    if reason == "large tensors":
        parts["memory"] = Memory()
    if reason == "not everything that is trained":
        parts["other"] = nn.Linear(2, 2)
    engine = Kept(tmp_path, **parts).engine
    with MidStepSaves(engine, NoticeWatch(None), fits=lambda: True, long_step_seconds=0) as mid_step:
        for step in range(100):
            mid_step.at_boundary(step, lambda: ({}, gradients))
            assert not engine.keeps_boundary
    engine.close()

    said = capsys.readouterr().err
    assert said.count("a notice is answered at the end of the step, because") == 1
    assert reason in said


def test_keeping_boundaries_costs_no_more_than_a_thousandth_of_the_training(tmp_path: Path) -> None:
    model, opt = objects()
    engine = Kept(tmp_path, model=model, opt=opt).engine
    asked = []

    def state() -> tuple[dict[str, Any], dict[str, Any]]:
        asked.append(1)
        return {}, {}

    with MidStepSaves(engine, NoticeWatch(None), fits=lambda: True) as mid_step:
        for step in range(1000):
            mid_step.at_boundary(step, state)
    engine.close()

    # Steps of no length at all: the first boundaries are kept, and hardly any other.
    assert 3 <= len(asked) <= 15


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path))
    monkeypatch.setenv("SPOTKEEPER_RUN_ID", "tiny")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.usefixtures("laptop")
def test_an_evaluation_after_the_training_of_its_step_is_refused_as_it_could_not_be_repeated() -> None:
    model, opt = objects()
    run = Run(model=model, opt=opt)
    with run.evaluation():
        pass  # outside of the loop
    with pytest.raises(RuntimeError, match="evaluate at the beginning of a step"):  # noqa: PT012  (the loop raises)
        for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=9):
            with run.evaluation():
                assert step == 0
            backward(model)
            opt.step()
            with run.evaluation():
                pass
    run.close()


def test_gradients_that_are_left_at_the_beginning_of_an_evaluation_are_saved_and_not_held_after_it(
    laptop: Path,
) -> None:
    model, opt = objects()
    run = Run(model=model, opt=opt)
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=3):
        if step == 2:
            with run.evaluation():
                run.request_yield("a notice of our own")
                wait_until(lambda: any((laptop / "commit" / "tiny").glob("*-000000000002.json")))
            assert not run._engine.keeps_boundary
            run.finish()
        opt.zero_grad()
        backward(model)
        opt.step()
    run.close()

    (manifest,) = (laptop / "commit" / "tiny").glob("*-000000000002.json")
    loop = json.loads(manifest.read_text())["state"]["loop"]
    assert len(str(loop["gradients"])) > len("model.0.weight")


def test_a_signal_is_known_to_other_threads_while_the_main_thread_does_not_handle_it() -> None:
    wakeup = SignalWakeup([signal.SIGUSR2])
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        assert not wakeup.has_come()
        signal.raise_signal(signal.SIGUSR2)
        told: list[bool] = []
        thread = threading.Thread(target=lambda: told.append(wakeup.has_come()))
        thread.start()
        thread.join()
        assert told == [True]
        second = SignalWakeup([signal.SIGUSR2])  # somebody else has it: left alone
        second.close()
        assert wakeup.has_come()
    finally:
        signal.signal(signal.SIGUSR2, before)
        wakeup.close()
    assert signal.set_wakeup_fd(-1) == -1
