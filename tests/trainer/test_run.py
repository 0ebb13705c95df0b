import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.checkpoint import FencedError
from spotkeeper.trainer.run import Run
from spotkeeper.trainer.run_settings import RunSettings, parse_duration
from spotkeeper.trainer.store import StoreRefusedError
from tests.trainer.conftest import REPOSITORY, clean_environ, closed_port
from tests.trainer.tiny_training import TOTAL, Noisy, Tied, train


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A run of this process, with its checkpoints in a folder and no metadata service."""
    monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path))
    monkeypatch.setenv("SPOTKEEPER_RUN_ID", "tiny")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    parsed = [parse_line(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in parsed if line is not None and line["event"] == event]


def steps_of(run: Run, total: int = TOTAL, **loader: Any) -> list[int]:
    settings = {"batch_size": 4, "seed": 7, **loader}
    steps = [step for step, _ in run.steps(run.loader(Noisy(), **settings), total=total)]
    run.close()
    return steps


def manifests(folder: Path) -> list[Path]:
    return sorted((folder / "commit" / "tiny").iterdir())


def test_steps_are_counted_from_zero_and_a_finished_run_has_none_left(
    laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Run(model=nn.Linear(2, 2))
    assert steps_of(first) == list(range(TOTAL))
    assert first.step == TOTAL
    before = manifests(laptop)
    capsys.readouterr()

    assert steps_of(Run(model=nn.Linear(2, 2))) == []
    assert manifests(laptop) == before
    assert f"run tiny is complete already: step {TOTAL} of {TOTAL}" in capsys.readouterr().err


def test_a_higher_total_continues_a_finished_run() -> None:
    steps_of(Run(model=nn.Linear(2, 2)), total=5)

    assert steps_of(Run(model=nn.Linear(2, 2)), total=8) == [5, 6, 7]


def test_making_a_run_restores_the_objects() -> None:
    first = nn.Linear(2, 2)
    steps_of(Run(model=first), total=1)
    second = nn.Linear(2, 2)
    assert not torch.equal(first.weight, second.weight)

    Run(model=second)

    assert torch.equal(first.weight, second.weight)


def test_a_run_that_stopped_early_stays_finished(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(model=nn.Linear(2, 2))
    seen = []
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=TOTAL):
        seen.append(step)
        if step == 2:
            run.finish()

    run.close()
    assert seen == [0, 1, 2]
    assert [line["step"] for line in lines(capsys, "committed")] == [3]
    again = Run(model=nn.Linear(2, 2))
    assert list(again.steps(again.loader(Noisy(), batch_size=4), total=TOTAL)) == []


def test_save_now_saves_at_the_end_of_the_step(laptop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(model=nn.Linear(2, 2))
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=5):
        if step == 1:
            run.save_now()
            assert not (laptop / "commit").exists()

    assert [(line["step"], line["cause"]) for line in lines(capsys, "committed")] == [(2, "requested"), (5, "final")]


def test_progress_tells_what_was_logged_last_at_the_first_step_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTKEEPER_PROGRESS_SECONDS", "1000")
    run = Run(model=nn.Linear(2, 2))
    for _ in run.steps(run.loader(Noisy(), batch_size=4), total=3):
        run.log(loss=torch.tensor(float("nan")), accuracy=0.5)

    first, last = lines(capsys, "progress")
    assert (first["step"], first["total"], first["metrics"]) == (1, 3, {"loss": "nan", "accuracy": 0.5})
    assert (last["step"], last["num_steps"], last["num_saves"]) == (3, 3, 1)


def test_the_end_tells_where_all_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    steps_of(Run(model=nn.Linear(2, 2)))
    passed = time.monotonic() - began

    told = lines(capsys, "progress")[-1]
    by_the_thread = sum(seconds for name, seconds in told["seconds"].items() if name not in ("save", "slowdown"))
    assert 0 < told["seconds"]["stall"] <= by_the_thread <= passed + 0.01  # rounded, each
    assert 0 <= told["checkpoint_age_seconds"] <= passed


def test_in_an_environment_the_age_of_the_newest_checkpoint_is_a_metric_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTKEEPER_ENV", "staging")

    steps_of(Run(model=nn.Linear(2, 2)))

    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    for line in (first, last):
        (declared,) = line["_aws"]["CloudWatchMetrics"]
        assert declared["Namespace"] == "Spotkeeper"
        assert declared["Dimensions"] == [["environment"]]
        assert (line["environment"], line["run"], line["epoch"]) == ("staging", "tiny", 1)
    assert 0 <= last["CheckpointAge"] < 10


class Crowded(io.StringIO):
    """Output that others write to as well, without newlines: between any two writes a counter overwrites itself."""

    def write(self, text: str) -> int:
        return super().write(f"{text}\r25/60")


def test_a_metric_is_a_line_of_its_own_whatever_others_leave_without_a_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTKEEPER_ENV", "staging")

    with contextlib.redirect_stdout(Crowded()) as output:
        steps_of(Run(model=nn.Linear(2, 2)))

    measured = [line for line in output.getvalue().split("\n") if "CheckpointAge" in line]
    assert len(measured) == 2
    assert all("_aws" in json.loads(line) for line in measured)


def test_elsewhere_no_metric_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    steps_of(Run(model=nn.Linear(2, 2)))

    assert "CheckpointAge" not in capsys.readouterr().out


def test_the_submitter_s_interval_goes_before_the_program_s(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTKEEPER_MAX_LOST_SECONDS", "0.000001")

    run = Run(max_lost="1h", model=nn.Linear(2, 2))
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=100_000):
        if step > 0 and run.committed_step is not None:
            run.finish()

    causes = [line["cause"] for line in lines(capsys, "committed")]
    assert causes[0] == "periodic"
    assert causes[-1] == "final"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(3, 2), r"model\.weight was float32\[2, 2\] and is float32\[2, 3\]"),
        (nn.Linear(2, 2, bias=False), r"model\.bias is in the checkpoint only"),
        (nn.BatchNorm1d(2), r"model\.running_mean is not in the checkpoint"),
        (nn.Linear(2, 2).double(), r"model\.weight was float32\[2, 2\] and is float64\[2, 2\]"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_touches_nothing(model: nn.Module, message: str) -> None:
    steps_of(Run(model=nn.Linear(2, 2)), total=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with pytest.raises(ValueError, match=message):
        Run(model=model)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_of_other_objects_is_refused() -> None:
    steps_of(Run(model=nn.Linear(2, 2)), total=1)

    with pytest.raises(ValueError, match="model is in the checkpoint only; net is not in the checkpoint"):
        Run(net=nn.Linear(2, 2))


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    def make(num_groups: int) -> dict[str, Any]:
        model = nn.Linear(2, 2)
        groups = [{"params": [parameter]} for parameter in model.parameters()][:num_groups]
        return {"model": model, "opt": torch.optim.SGD(groups, lr=0.1)}

    steps_of(Run(**make(2)), total=1)

    with pytest.raises(ValueError, match="checkpoint of other objects: opt: "):
        Run(**make(1))


def optimized(
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, *, lr: float = 0.1, is_cosine: bool = False
) -> dict[str, Any]:
    """Return a model with an optimizer and a scheduler, whose states load into those of other classes too."""
    model = nn.Linear(2, 2)
    opt = optimizer(model.parameters(), lr=lr)  # type: ignore[call-arg]  # every optimizer of torch's has one
    halving, cosine = torch.optim.lr_scheduler.StepLR, torch.optim.lr_scheduler.CosineAnnealingLR
    return {"model": model, "opt": opt, "sched": cosine(opt, 9) if is_cosine else halving(opt, 1, gamma=0.5)}


def stepped(objects: dict[str, Any]) -> None:
    run = Run(**objects)
    for _ in run.steps(run.loader(Noisy(), batch_size=4), total=2):
        objects["opt"].step()
        objects["sched"].step()
    run.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda: optimized(torch.optim.Adam), "opt was of class SGD and is of class Adam"),
        (lambda: optimized(is_cosine=True), "sched was of class StepLR and is of class CosineAnnealing"),
    ],
)
def test_an_optimizer_or_scheduler_of_another_class_is_refused_and_both_are_named(
    changed: Callable[[], dict[str, Any]], message: str
) -> None:
    stepped(optimized())

    with pytest.raises(ValueError, match=f"{message}.*Restore the program that wrote it, or start a new run"):
        Run(**changed())


def test_a_changed_learning_rate_is_that_of_the_checkpoint_and_a_line_names_both(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stepped(optimized(lr=0.1))
    objects = optimized(lr=0.3)

    Run(**objects)

    assert objects["opt"].param_groups[0]["initial_lr"] == 0.1
    said = capsys.readouterr()
    (line,) = [line for text in said.out.splitlines() if (line := parse_line(text)) and line["event"] == "overridden"]
    assert (line["object"], line["setting"]) == ("opt", "learning rate")
    assert (line["checkpoint"], line["program"]) == ([0.1], [0.3])
    assert "opt goes on with the checkpoint's learning rate 0.1, not with the program's 0.3" in said.err


def test_a_learning_rate_that_only_the_scheduler_has_moved_is_not_taken_for_a_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stepped(optimized(lr=0.1))
    objects = optimized(lr=0.1)

    Run(**objects)

    assert objects["opt"].param_groups[0]["lr"] == pytest.approx(0.025)
    assert lines(capsys, "overridden") == []


def test_how_much_work_a_kill_can_cost_is_said_at_the_start_and_after_a_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(model=nn.Linear(2, 2))
    steps_of(run, total=1)
    said = capsys.readouterr()
    (started,) = [line for text in said.out.splitlines() if (line := parse_line(text)) and line["event"] == "started"]
    assert started["max_lost_seconds"] == 900
    assert "saves at least every 900 s (max_lost)" in said.err

    Run(model=nn.Linear(2, 2), max_lost="90s")

    (resumed,) = lines(capsys, "resumed")
    assert resumed["max_lost_seconds"] == 90


def test_a_loader_with_another_meaning_of_the_position_is_refused() -> None:
    steps_of(Run(model=nn.Linear(2, 2)), total=1)
    run = Run(model=nn.Linear(2, 2))

    with pytest.raises(ValueError, match="batch_size was 4 and is 5, seed was 7 and is 8"):
        steps_of(run, batch_size=5, seed=8)


def test_a_state_of_each_rank_must_be_that_of_an_object() -> None:
    with pytest.raises(ValueError, match="per_rank names agent; the objects are model"):
        Run(model=nn.Linear(2, 2), per_rank=["agent"])


def test_what_cannot_be_saved_is_refused_before_training() -> None:
    class Counter:
        def state_dict(self) -> dict[str, Any]:
            return {"seen": {1, 2}}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise AssertionError(state)

    with pytest.raises(ValueError, match=r"objects\.counter\.seen is a builtins\.set"):
        Run(counter=Counter())
    with pytest.raises(TypeError, match="lr=float has no state_dict"):
        Run(lr=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to save"):
        Run()


def test_wrong_use_of_steps_is_refused() -> None:
    run = Run(model=nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"what run\.loader\(dataset, …\) returns.*got list"):
        run.steps([1, 2], total=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="total must be at least 1 step; got 0"):
        steps_of(run, total=0)
    steps_of(run, total=1)
    with pytest.raises(RuntimeError, match="used once"):
        steps_of(run, total=2)


def test_a_failed_save_is_reported_and_the_training_goes_on(laptop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(model=nn.Linear(2, 2))
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=4):
        if step == 0:
            (laptop / "data").write_text("a file where the folder should be")
            run.save_now(wait=True)
        if step == 2:
            (laptop / "data").unlink()
            run.save_now(wait=True)

    printed = [parse_line(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["event"], line["step"]) for line in printed if line and line["event"] in ("save_failed", "committed")]
    assert told == [("save_failed", 1), ("committed", 3), ("committed", 4)]


def test_every_unusable_variable_is_named_at_once() -> None:
    environ = {
        "SPOTKEEPER_RUN_ID": "Not A Name",
        "SPOTKEEPER_LEDGER_TABLE": "ledger",
        "SPOTKEEPER_MAX_LOST_SECONDS": "soon",
        "SPOTKEEPER_PROGRESS_SECONDS": "-1",
    }
    with pytest.raises(ValueError, match="unusable environment") as raised:
        RunSettings.read(environ, "train.py")

    for name in ("SPOTKEEPER_RUN_ID='Not A Name'", "SPOTKEEPER_EPOCH is not set", "SECONDS='soon'", "SECONDS='-1'"):
        assert name in str(raised.value)


def test_a_world_of_processes_without_their_places_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ValueError, match="unusable environment") as raised:
        RunSettings.read({"WORLD_SIZE": "4", "RANK": "-1"}, "train.py")

    for name in (
        "RANK='-1': must be",
        "LOCAL_RANK is not set",
        "MASTER_ADDR is not set",
        "start the program by torchrun",
    ):
        assert name in str(raised.value)


@pytest.mark.parametrize("environ", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_a_process_that_trains_alone_needs_nobody(environ: dict[str, str]) -> None:
    assert RunSettings.read(environ, "train.py").ranks is None


@pytest.mark.parametrize(
    ("program", "run_id"), [("examples/train_digits.py", "train-digits"), ("/x/My Run.v2.py", "my-run-v2"), ("", "run")]
)
def test_a_run_without_a_name_is_called_like_its_program(program: str, run_id: str) -> None:
    assert RunSettings.read({}, program).run_id == run_id


def test_a_second_run_in_one_process_is_refused_until_the_first_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Run(model=nn.Linear(2, 2))
    for _ in first.steps(first.loader(Noisy(), batch_size=4), total=2):
        pass

    with pytest.raises(ValueError, match=r"has a Run of 'tiny' already.*submit one run each.*SPOTKEEPER_RUN_ID"):
        Run(model=nn.Linear(2, 2))
    monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path / "." / "x" / ".."))
    with pytest.raises(ValueError, match="already"):
        Run(model=nn.Linear(2, 2))
    monkeypatch.setenv("SPOTKEEPER_RUN_ID", "another")
    assert Run(model=nn.Linear(2, 2)).step == 0
    monkeypatch.setenv("SPOTKEEPER_RUN_ID", "tiny")
    first.close()
    assert Run(model=nn.Linear(2, 2)).step == 2


def test_a_run_that_could_not_be_made_does_not_stand_in_the_way() -> None:
    steps_of(Run(model=nn.Linear(2, 2)), total=1)
    with pytest.raises(ValueError, match="other objects"):
        Run(model=nn.Linear(2, 3))

    assert Run(model=nn.Linear(2, 2)).step == 1


def test_a_loop_that_is_left_says_how_to_stop_early_and_gives_its_signals_back(
    laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run = Run(model=nn.Linear(2, 2))
    for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=20):
        assert signal.getsignal(signal.SIGTERM) is not before
        if step == 3:
            break

    line = capsys.readouterr().err.splitlines()[-1]
    assert "left in step 3 of 20" in line
    assert "call run.finish()" in line
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (laptop / "commit").exists()


class BecomesUnstorable(torch.optim.SGD):
    """An optimizer whose state cannot be stored after its first step."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["history"] = deque([0.0])


def test_a_state_that_becomes_unstorable_ends_the_training_at_the_first_save_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Linear(6, 1)
    opt = BecomesUnstorable(model.parameters(), lr=0.1)
    run = Run(model=model, opt=opt)
    steps = run.steps(run.loader(Noisy(), batch_size=4), total=5)
    _, (inputs, _) = next(steps)
    torch.autograd.backward(model(inputs).mean())
    opt.step()
    run.save_now(wait=True)
    with pytest.raises(ValueError, match=r"objects\.opt\.state\.0\.history is a collections\.deque"):
        next(steps)

    (line,) = lines(capsys, "save_failed")
    assert "objects.opt.state.0.history is a collections.deque" in line["reason"]


def test_a_store_that_is_out_at_the_start_is_no_fault_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path / "file"))
    monkeypatch.setenv("SPOTKEEPER_OUTCOME_FILE", str(tmp_path / "outcome.json"))

    with pytest.raises(NotADirectoryError):
        Run(model=nn.Linear(2, 2))

    assert json.loads((tmp_path / "outcome.json").read_text()) == {"outcome": "yielded", "step": 0}


def test_a_bucket_that_is_not_there_is_refused_at_the_start_with_what_to_do(
    aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws
    monkeypatch.setenv("SPOTKEEPER_URI", "s3://nowhere-at-all")
    monkeypatch.setenv("SPOTKEEPER_OUTCOME_FILE", str(tmp_path / "outcome.json"))

    with pytest.raises(StoreRefusedError, match=r"NoSuchBucket.*correct its name, or deploy"):
        Run(model=nn.Linear(2, 2))

    assert json.loads((tmp_path / "outcome.json").read_text()) == {"outcome": "refused", "step": 0}


def test_an_attempt_that_is_fenced_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTKEEPER_OUTCOME_FILE", str(tmp_path / "outcome.json"))
    monkeypatch.setenv("SPOTKEEPER_EPOCH", "4")
    late = Run(model=nn.Linear(2, 2))
    late.close()
    monkeypatch.setenv("SPOTKEEPER_EPOCH", "5")
    Run(model=nn.Linear(2, 2)).close()

    with pytest.raises(FencedError):
        steps_of(late)

    assert json.loads((tmp_path / "outcome.json").read_text())["outcome"] == "fenced"


def test_parameters_that_are_tied_are_stored_once_and_are_still_tied_when_resumed(laptop: Path) -> None:
    first = Tied()
    steps_of(Run(model=first), total=1)
    second = Tied()
    Run(model=second).close()

    assert second.second.weight is second.first.weight
    assert torch.equal(second.first.weight, first.first.weight)
    (manifest,) = manifests(laptop)
    model = json.loads(manifest.read_text())["state"]["objects"]["model"]["$module"]
    assert model["first.weight"] == model["second.weight"]


@pytest.mark.parametrize("is_sparse", [False, True])
def test_gradients_come_back_when_the_loop_begins_those_that_only_an_optimizer_knows_included(
    *, is_sparse: bool
) -> None:
    def make() -> tuple[nn.Module, nn.Parameter, Run]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(8, 3, sparse=is_sparse), nn.Linear(3, 2))
        extra = nn.Parameter(torch.ones(2))
        opt = torch.optim.SGD([*model.parameters(), extra], lr=0.1)
        return model, extra, Run(model=model, opt=opt)

    model, extra, run = make()
    for _ in run.steps(run.loader(Noisy(), batch_size=4), total=1):
        torch.autograd.backward((model(torch.tensor([1, 2, 1])).sum(0) * extra).sum())
    run.close()
    again, extra_again, resumed = make()
    torch.autograd.backward(again(torch.tensor([3])).sum())  # what is there before must not count

    for _ in resumed.steps(resumed.loader(Noisy(), batch_size=4), total=2):
        for one, other in zip([*model.parameters(), extra], [*again.parameters(), extra_again], strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert one.grad.layout == other.grad.layout
            assert torch.equal(one.grad.to_dense(), other.grad.to_dense())
            if is_sparse and one is next(model.parameters()):
                assert torch.equal(one.grad._values(), other.grad._values())


@pytest.mark.parametrize(("value", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), (2, 2), (0.5, 0.5)])
def test_durations_are_read(value: str | float, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "15", "15 m", "0s", -1, float("nan"), float("inf"), "m"])
def test_other_durations_are_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match="max_lost must be"):
        parse_duration(value)


def test_importing_spotkeeper_loads_neither_torch_nor_boto3() -> None:
    program = "import sys, spotkeeper; print([name for name in ('torch', 'boto3', 'numpy') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environ(), cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout.replace("'", '"')) == []


def test_two_trainings_in_one_process_end_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for name in ("one", "two"):
        monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path / name))
        train(total=4)
        (newest,) = (tmp_path / name / "commit" / "tiny").iterdir()
        manifest = json.loads(newest.read_text())
        ends.append((manifest["objects"][0]["crc64nvme"], manifest["state"]))

    assert ends[0] == ends[1]
