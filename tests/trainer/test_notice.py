"""Notices as the program meets them: from its own calls, and several at once."""

import json
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from spotkeeper.contract.exit_codes import EXIT_YIELDED
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.imds import Imds
from spotkeeper.trainer.notice import INTERRUPTION_PATH, NoticeWatch
from spotkeeper.trainer.run import Run
from tests.trainer.conftest import closed_port
from tests.trainer.fake_imds import FakeImds
from tests.trainer.test_imds import wait_until
from tests.trainer.tiny_training import Noisy


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SPOTKEEPER_URI", str(tmp_path))
    monkeypatch.setenv("SPOTKEEPER_RUN_ID", "tiny")
    monkeypatch.setenv("SPOTKEEPER_PROGRESS_SECONDS", "1000")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    return tmp_path


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    parsed = [parse_line(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in parsed if line is not None and line["event"] != "progress"]


def announce(imds: FakeImds) -> None:
    time = datetime.now(UTC) + timedelta(minutes=2)
    imds.documents[INTERRUPTION_PATH] = json.dumps({"action": "terminate", "time": f"{time:%Y-%m-%dT%H:%M:%SZ}"})


def train(during_step: Callable[[Run, int], None]) -> None:
    run = Run(model=nn.Linear(2, 2))
    try:
        for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=9):
            during_step(run, step)
    finally:
        run.close()


def exit_code_of_training(during_step: Callable[[Run, int], None]) -> object:
    with pytest.raises(SystemExit) as end:
        train(during_step)
    return end.value.code


def test_a_program_that_requests_to_yield_is_saved_at_the_end_of_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    def during_step(run: Run, step: int) -> None:
        if step == 2:
            run.request_yield("Slurm sent us its signal")
            run.request_yield("and again")
            assert run.yield_requested

    assert exit_code_of_training(during_step) == EXIT_YIELDED

    started, notice, committed, yielded = written(capsys)
    assert started["event"] == "started"
    assert (notice["kind"], notice["reason"]) == ("requested", "Slurm sent us its signal")
    assert (committed["step"], committed["cause"]) == (3, "requested")
    assert (yielded["event"], yielded["reason"]) == ("yielded", "Slurm sent us its signal")


def test_another_thread_may_request_it(capsys: pytest.CaptureFixture[str]) -> None:
    def during_step(run: Run, step: int) -> None:
        if step == 1:
            watcher = threading.Thread(target=run.request_yield, args=["the cluster drains this node"])
            watcher.start()
            watcher.join()

    assert exit_code_of_training(during_step) == EXIT_YIELDED
    assert [line["step"] for line in written(capsys) if line["event"] == "committed"] == [2]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_machine_that_is_gone_already_is_no_reason_to_yield(seconds: float) -> None:
    run = Run(model=nn.Linear(2, 2))

    with pytest.raises(ValueError, match="within_seconds must be above 0, or left out where it is not known; got"):
        run.request_yield("late", within_seconds=seconds)


def test_an_interruption_and_two_signals_within_one_step_make_one_save(
    capsys: pytest.CaptureFixture[str], imds: FakeImds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.endpoint)
    announce(imds)

    def during_step(run: Run, step: int) -> None:
        if step == 0:
            wait_until(lambda: run.yield_requested)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    assert exit_code_of_training(during_step) == EXIT_YIELDED
    lines = written(capsys)
    assert [line["event"] for line in lines] == ["started", "notice", "notice", "committed", "yielded"]
    assert [line["kind"] for line in lines[1:3]] == ["interruption", "SIGTERM"]
    assert lines[3]["cause"] == "notice"


def test_the_earliest_deadline_sets_the_budget(imds: FakeImds) -> None:
    announce(imds)
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        watch.request("the node is drained", 3600)
        drained = watch.budget_seconds()
        assert drained is not None
        assert 3580 < drained <= 3592
        wait_until(lambda: watch.interruption is not None)

        budget = watch.budget_seconds()
        assert budget is not None
        assert 100 < budget <= 112


def test_a_signal_tells_no_deadline(imds: FakeImds) -> None:
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        signal.raise_signal(signal.SIGUSR1)

        assert watch.stop_reason == "SIGUSR1"
        assert watch.budget_seconds() is None
