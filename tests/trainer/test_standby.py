"""An attempt that waits for its run as the standby of it, as a process of its own and by itself."""

import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_REFUSED, EXIT_YIELDED
from spotkeeper.policy.standby import Evidence, StandbyView
from spotkeeper.trainer.attempt_ledger import AttemptLedger, LedgerUnavailableError
from spotkeeper.trainer.attempt_settings import AttemptSettings, Claim
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.imds import Imds
from spotkeeper.trainer.notice import INTERRUPTION_PATH
from spotkeeper.trainer.standby import Standby
from tests.trainer.conftest import closed_port
from tests.trainer.fake_imds import FakeImds
from tests.trainer.program import attempt
from tests.trainer.run_ledger import STANDBY_JOB, RunLedger

YOUNG = {"SPOTKEEPER_STANDBY_AGE_SECONDS": "3600", "SPOTKEEPER_STANDBY_PATIENCE_SECONDS": "3600"}
OLD_ENOUGH = {"SPOTKEEPER_STANDBY_AGE_SECONDS": "0.01", "SPOTKEEPER_STANDBY_PATIENCE_SECONDS": "3600"}


@pytest.fixture
def standby_environ(environ: dict[str, str], ledger: RunLedger) -> dict[str, str]:
    ledger.hold_on_demand()
    return {**environ, **YOUNG, "SPOTKEEPER_SUBMISSION": "2", "AWS_BATCH_JOB_ID": STANDBY_JOB}


def test_a_standby_waits_asks_and_trains_once_the_run_has_moved_on(
    standby_environ: dict[str, str], ledger: RunLedger, tmp_path: Path
) -> None:
    program = tmp_path / "started"
    with attempt(["touch", str(program)], {**standby_environ, **OLD_ENOUGH}) as standby:
        standby.wait_for("handover_asked")
        run = ledger.item()
        assert {"standby_ready_at", "handover_asked_at"} <= run.keys()
        assert (run["submission"]["N"], run["epoch"]["N"]) == ("1", "1")
        assert not program.exists()
        ledger.move_on()

        assert standby.end() == EXIT_COMPLETED, standby.other_output

    assert standby.events() == ["standby", "handover_asked", "claimed", "completed"]
    assert [line["epoch"] for line in standby.lines] == [None, None, 2, 2]
    assert program.exists()


def test_a_standby_that_is_not_old_enough_does_not_ask_and_takes_a_run_that_moves_on_by_itself(
    standby_environ: dict[str, str], ledger: RunLedger
) -> None:
    with attempt(["true"], standby_environ) as standby:
        ledger.wait_for("standby_ready_at")
        assert "handover_asked_at" not in ledger.item()
        ledger.move_on()

        assert standby.end() == EXIT_COMPLETED, standby.other_output

    assert standby.events() == ["standby", "claimed", "completed"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "succeeded"}, "the run has ended or rests"),
        ({"state": "waiting"}, "the run has ended or rests"),
        ({"cancel_requested_at": "2026-11-23T10:00:00Z"}, "somebody wants it to"),
        ({"pause_requested_at": "2026-11-23T10:00:00Z"}, "somebody wants it to"),
        ({"completion": "recorded"}, "the run has ended or rests"),
        ({"standby_submission": 3}, "wants no standby of submission 2 any more"),
        ({"standby_submission": None}, "wants no standby of submission 2 any more"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_standby_that_is_not_wanted_any_more_leaves(
    standby_environ: dict[str, str], ledger: RunLedger, changes: dict[str, str | int | None], reason: str
) -> None:
    with attempt(["true"], standby_environ) as standby:
        ledger.wait_for("standby_ready_at")
        ledger.change(**changes)

        assert standby.end() == EXIT_FENCED, standby.other_output

    assert standby.events() == ["standby", "left"]
    assert reason in standby.lines[-1]["reason"]
    assert ledger.item()["epoch"]["N"] == "1"


@pytest.mark.parametrize("changes", [{"standby_submission": 3}, {"cancel_requested_at": "2026-11-23T10:00:00Z"}])
def test_a_refused_attempt_that_is_not_the_standby_of_a_live_run_does_not_stay(
    standby_environ: dict[str, str], ledger: RunLedger, changes: dict[str, str | int | None]
) -> None:
    ledger.change(**changes)
    with attempt(["true"], standby_environ) as standby:
        assert standby.end() == EXIT_FENCED, standby.other_output

    assert standby.events() == ["fenced"]
    assert "standby_ready_at" not in ledger.item()


def test_a_standby_whose_question_nobody_answers_leaves(standby_environ: dict[str, str]) -> None:
    environ = {**standby_environ, **OLD_ENOUGH, "SPOTKEEPER_STANDBY_PATIENCE_SECONDS": "0.01"}
    with attempt(["true"], environ) as standby:
        assert standby.end() == EXIT_FENCED, standby.other_output

    assert standby.events() == ["standby", "handover_asked", "left"]
    assert standby.lines[-1]["reason"] == "the run was not handed over within 0.01 s"


def test_of_two_standbys_of_one_submission_only_the_job_that_the_run_moved_on_to_takes_it(
    standby_environ: dict[str, str], ledger: RunLedger
) -> None:
    twin_environ = {**standby_environ, "AWS_BATCH_JOB_ID": "a twin, after a lost reply to SubmitJob"}
    with attempt(["true"], standby_environ) as standby, attempt(["true"], twin_environ) as twin:
        standby.wait_for("standby")
        twin.wait_for("standby")
        ledger.move_on()

        assert standby.end() == EXIT_COMPLETED, standby.other_output
        assert twin.end() in (EXIT_FENCED, EXIT_COMPLETED), twin.other_output

    assert "claimed" not in twin.events()
    assert ledger.item()["epoch"]["N"] == "2"


def test_a_standby_that_batch_started_again_says_ready_anew_and_is_young(
    standby_environ: dict[str, str], ledger: RunLedger
) -> None:
    ledger.change(standby_ready_at="at first", handover_asked_at="at first")
    with attempt(["true"], {**standby_environ, "AWS_BATCH_JOB_ATTEMPT": "2"}) as standby:
        standby.wait_for("standby")
        give_up_at = time.monotonic() + 30
        while ledger.item()["standby_ready_at"]["S"] == "at first":
            assert time.monotonic() < give_up_at
        ledger.move_on()
        assert standby.end() == EXIT_COMPLETED, standby.other_output

    assert "handover_asked" not in standby.events()


def test_a_signal_ends_a_standby_for_another_attempt_of_it(standby_environ: dict[str, str], ledger: RunLedger) -> None:
    with attempt(["true"], standby_environ) as standby:
        ledger.wait_for("standby_ready_at")
        standby.process.send_signal(signal.SIGTERM)

        assert standby.end() == EXIT_YIELDED, standby.other_output

    assert standby.events() == ["standby"]


def announce(imds: FakeImds, in_seconds: float) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=in_seconds)
    imds.documents[INTERRUPTION_PATH] = json.dumps(
        {"action": "terminate", "time": deadline.strftime("%Y-%m-%dT%H:%M:%SZ")}
    )


@pytest.fixture
def on_ec2(standby_environ: dict[str, str], imds: FakeImds) -> dict[str, str]:
    return {**standby_environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint}


def test_a_standby_whose_host_is_taken_stays_until_it_goes_so_that_no_retry_lands_on_it(
    on_ec2: dict[str, str], ledger: RunLedger, imds: FakeImds
) -> None:
    with attempt(["true"], on_ec2) as standby:
        ledger.wait_for("standby_ready_at")
        announce(imds, 60)
        standby.wait_for("lingering")
        ledger.move_on()  # the next attempt of the same job takes the run
        assert standby.process.poll() is None
        standby.process.send_signal(signal.SIGTERM)

        assert standby.end() == EXIT_YIELDED, standby.other_output

    assert standby.events() == ["standby", "notice", "lingering"]
    assert ledger.item()["epoch"]["N"] == "1"


def test_a_standby_whose_host_outlives_its_notice_yields(on_ec2: dict[str, str], imds: FakeImds) -> None:
    announce(imds, -300)
    with attempt(["true"], on_ec2) as standby:
        assert standby.end() == EXIT_YIELDED, standby.other_output

    assert standby.events() == ["standby", "notice", "lingering", "yielded"]


def test_a_standby_that_cannot_get_its_source_never_says_that_it_is_ready(
    standby_environ: dict[str, str], ledger: RunLedger
) -> None:
    source = {"SPOTKEEPER_SOURCE_URI": "s3://nowhere/a.tar.gz", "SPOTKEEPER_SOURCE_SHA256": "0" * 64}
    with attempt(["true"], {**standby_environ, **source}) as standby:
        assert standby.end() == EXIT_REFUSED, standby.other_output

    assert "standby_ready_at" not in ledger.item()


def test_a_standby_that_was_not_told_how_old_to_get_is_refused(standby_environ: dict[str, str]) -> None:
    environ = {name: value for name, value in standby_environ.items() if name not in YOUNG}
    with attempt(["true"], environ) as standby:
        assert standby.end() == EXIT_REFUSED

    assert "SPOTKEEPER_STANDBY_AGE_SECONDS and SPOTKEEPER_STANDBY_PATIENCE_SECONDS" in "".join(standby.other_output)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({**YOUNG, "SPOTKEEPER_STANDBY_AGE_SECONDS": "soon"}, "SPOTKEEPER_STANDBY_AGE_SECONDS='soon'"),
        ({**YOUNG, "SPOTKEEPER_STANDBY_PATIENCE_SECONDS": "-1"}, "SPOTKEEPER_STANDBY_PATIENCE_SECONDS='-1'"),
        ({"SPOTKEEPER_STANDBY_AGE_SECONDS": "60"}, "SPOTKEEPER_STANDBY_PATIENCE_SECONDS is not set"),
    ],
)
def test_ages_that_are_malformed_or_half_there_are_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match="unusable environment") as raised:
        AttemptSettings.read(variables)

    assert problem in str(raised.value)


# By itself, so that something can happen between its look and what it does


class Eventful(AttemptLedger):
    """A ledger in which something happens just before each call of one kind."""

    def __init__(self, table: str, call: str, happens: Callable[[], None]) -> None:
        super().__init__("tiny", Claim(table=table, submission=2, job_id=STANDBY_JOB, attempt=1))
        self._call = call
        self._happens = happens

    def look(self) -> StandbyView:
        self._pass("look")
        return super().look()

    def say_ready(self) -> None:
        self._pass("say_ready")
        super().say_ready()

    def ask_for_handover(self) -> None:
        self._pass("ask_for_handover")
        super().ask_for_handover()

    def _pass(self, call: str) -> None:
        if call == self._call:
            self._happens()


def wait(ledger: AttemptLedger) -> int | None:
    return Standby(
        ledger,
        EventLog("tiny", None),
        Imds(f"http://127.0.0.1:{closed_port()}"),
        submission=2,
        evidence=Evidence(age_seconds=0, patience_seconds=0.01),
        started_at=time.monotonic(),
        poll_seconds=0.02,
    ).wait()


@pytest.mark.parametrize("call", ["say_ready", "ask_for_handover"])
def test_a_standby_that_is_refused_because_another_took_its_place_leaves(ledger: RunLedger, call: str) -> None:
    ledger.hold_on_demand()

    assert wait(Eventful(ledger.table, call, lambda: ledger.change(standby_submission=3))) == EXIT_FENCED

    assert "handover_asked_at" not in ledger.item()


@pytest.mark.parametrize("call", ["say_ready", "ask_for_handover"])
def test_a_standby_that_is_refused_because_the_run_has_just_moved_on_claims(ledger: RunLedger, call: str) -> None:
    ledger.hold_on_demand()

    assert wait(Eventful(ledger.table, call, ledger.move_on)) is None


@pytest.mark.parametrize("call", ["look", "say_ready", "ask_for_handover"])
def test_a_standby_stays_while_the_ledger_does_not_answer(ledger: RunLedger, call: str) -> None:
    ledger.hold_on_demand()
    outages = [LedgerUnavailableError("no answer") for _ in range(3)]

    def fail_thrice() -> None:
        if outages:
            raise outages.pop()

    assert wait(Eventful(ledger.table, call, fail_thrice)) == EXIT_FENCED

    # It left in the end because nobody answered its question, which it has put all the same.
    assert {"standby_ready_at", "handover_asked_at"} <= ledger.item().keys()
    assert not outages
