"""An attempt on on-demand gives way to the standby that asks for its run."""

import signal
import sys
import threading
import time

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_YIELDED
from spotkeeper.policy.standby import StandbyView
from spotkeeper.trainer.attempt_ledger import LedgerUnavailableError
from spotkeeper.trainer.child import WAITED
from spotkeeper.trainer.handover import HandoverWatch
from tests.trainer.program import attempt
from tests.trainer.run_ledger import STANDBY_JOB, RunLedger

ASKED = "2026-11-23T10:00:00.000+00:00"
REASON = "spotkeeper-exec: a standby on spot has asked for this run: SIGTERM to the program now"
FREE = StandbyView(is_live=True, submission=1, standby_submission=2, has_asked=False)
WANTED = StandbyView(is_live=True, submission=1, standby_submission=2, has_asked=True)


def training(total: int) -> list[str]:
    call = f"train(lambda _step: time.sleep(0.05), total={total})"
    return [sys.executable, "-c", f"import time; from tests.trainer.tiny_training import train; {call}"]


def test_a_run_returns_to_spot_without_a_lost_step(environ: dict[str, str], ledger: RunLedger) -> None:
    """Make before break, the whole of it; the test is the control plane."""
    environ |= {"SPOTKEEPER_PROGRESS_SECONDS": "0.1"}
    ledger.change(market="on-demand")
    standby_environ = {
        **environ,
        "SPOTKEEPER_SUBMISSION": "2",
        "AWS_BATCH_JOB_ID": STANDBY_JOB,
        "SPOTKEEPER_STANDBY_AGE_SECONDS": "0.01",
        "SPOTKEEPER_STANDBY_PATIENCE_SECONDS": "60",
    }
    with attempt(training(400), environ) as holder:
        holder.wait_for("progress")
        ledger.change(standby_submission=2, standby_job_id=STANDBY_JOB)
        with attempt(training(1), standby_environ) as standby:
            standby.wait_for("handover_asked")
            assert holder.end() == EXIT_YIELDED, holder.other_output
            ledger.move_on()
            assert standby.end() == EXIT_COMPLETED, standby.other_output

    assert holder.events() == ["claimed", "started", "notice", "committed", "yielded"]
    assert any(text.startswith(REASON) for text in holder.other_output)
    assert standby.events()[:4] == ["standby", "handover_asked", "claimed", "resumed"]
    (resumed,) = [line for line in standby.lines if line["event"] == "resumed"]
    (committed,) = [line for line in holder.lines if line["event"] == "committed"]
    assert (resumed["step"], resumed["epoch"]) == (committed["step"], 2)


def plain(body: str) -> list[str]:
    """Return a program without the library that says when it has got to work; it has a second to be stopped in."""
    says_so = 'print(\'spotkeeper {"event":"working"}\', flush=True)'
    return [sys.executable, "-c", f"import json, os, signal, sys, time\n{body}\n{says_so}\ntime.sleep(1)"]


COMPLETES = "open(os.environ['SPOTKEEPER_OUTCOME_FILE'], 'w').write(json.dumps({'outcome': 'completed', 'step': 9}))"


@pytest.mark.parametrize(
    ("market", "code"), [("on-demand", EXIT_YIELDED), ("spot", EXIT_COMPLETED), (None, EXIT_COMPLETED)]
)
def test_only_an_attempt_on_on_demand_is_followed(
    environ: dict[str, str], ledger: RunLedger, market: str | None, code: int
) -> None:
    ledger.change(market=market)
    with attempt(plain("pass"), environ) as holder:
        holder.wait_for("working")
        ledger.change(handover_asked_at=ASKED)

        assert holder.end() == code, holder.other_output


def test_a_program_that_has_done_its_work_is_not_told_to_stop(environ: dict[str, str], ledger: RunLedger) -> None:
    ledger.change(market="on-demand")
    with attempt(plain(COMPLETES), environ) as holder:
        holder.wait_for("working")
        ledger.change(handover_asked_at=ASKED)

        assert holder.end() == EXIT_COMPLETED, holder.other_output

    assert ledger.item()["completion"]["M"]["step"] == {"N": "9"}


def test_a_program_that_completes_when_it_is_told_to_stop_has_completed(
    environ: dict[str, str], ledger: RunLedger
) -> None:
    ledger.change(market="on-demand")
    on_signal = f"def finish(*_):\n    {COMPLETES}\n    sys.exit(0)\nsignal.signal(signal.SIGTERM, finish)"
    with attempt(plain(on_signal), environ) as holder:
        holder.wait_for("working")
        ledger.change(handover_asked_at=ASKED)

        assert holder.end() == EXIT_COMPLETED, holder.other_output

    assert any(text.startswith(REASON) for text in holder.other_output)
    assert ledger.item()["completion"]["M"]["step"] == {"N": "9"}


def test_a_signal_reaches_the_program_while_the_run_is_watched(environ: dict[str, str], ledger: RunLedger) -> None:
    ledger.change(market="on-demand")
    with attempt(plain("signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))"), environ) as holder:
        holder.wait_for("working")
        holder.process.send_signal(signal.SIGUSR1)

        assert holder.end() == EXIT_YIELDED, holder.other_output

    assert holder.lines[-1]["reason"] == "SIGUSR1"


class Looks:
    """What a watch sees, look after look; the last stays."""

    def __init__(self, *views: StandbyView | Exception) -> None:
        self._views = list(views)
        self.seen_all = threading.Event()

    def __call__(self) -> StandbyView:
        view = self._views.pop(0) if len(self._views) > 1 else self._views[0]
        if len(self._views) == 1:
            self.seen_all.set()
        if isinstance(view, Exception):
            raise view
        return view


def gives_way(watch: HandoverWatch) -> bool:
    give_up_at = time.monotonic() + 10
    while not watch.must_give_way and time.monotonic() < give_up_at:
        threading.Event().wait(0.005)
    return watch.must_give_way


def test_no_signal_is_delivered_to_the_thread_that_looks() -> None:
    masks: list[set[int]] = []

    def look() -> StandbyView:
        masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        return WANTED

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with HandoverWatch(look, is_complete=lambda: False, poll_seconds=0.001) as watch:
        assert gives_way(watch)

    assert masks[0] >= WAITED
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_an_outage_of_the_ledger_neither_stops_the_training_nor_the_watch() -> None:
    looks = Looks(LedgerUnavailableError(), FREE, LedgerUnavailableError(), FREE)
    with HandoverWatch(looks, is_complete=lambda: False, poll_seconds=0.001) as watch:
        assert looks.seen_all.wait(10)
        assert not watch.must_give_way
        looks._views = [LedgerUnavailableError(), WANTED]

        assert gives_way(watch)


def test_a_watch_that_may_not_look_says_so_and_lets_the_training_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    looks = Looks(ValueError("no permission"))
    with HandoverWatch(looks, is_complete=lambda: False, poll_seconds=0.001) as watch:
        assert looks.seen_all.wait(10)
        thread = next((one for one in threading.enumerate() if one.name == "spotkeeper-handover"), None)
        if thread is not None:
            thread.join(10)
        looks._views = [WANTED]
        assert not watch.must_give_way

    assert "cannot tell whether a standby asks: no permission" in capsys.readouterr().err
