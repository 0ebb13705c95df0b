"""The two writes that an attempt makes itself, against a table with the control plane's items in it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from spotkeeper.contract.ledger import (
    FINAL_STATES,
    RESTING_STATES,
    RunState,
    claim_request,
    completion_request,
    placement_request,
)
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.submit import next_submission
from tests.control.fakes import NOW, new_run
from tests.control.ledger_table import TABLE, dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RUN = "digits-7fq2"


@pytest.fixture
def client() -> Iterator["DynamoDBClient"]:
    with dynamodb() as made:
        yield made


def start(client: "DynamoDBClient", **changes: Any) -> DynamoDBLedger:
    ledger = DynamoDBLedger(client, TABLE)
    ledger.create(new_run(**changes))
    return ledger


def claim(client: "DynamoDBClient", *, job_id: str = "job-1", attempt: int = 1, submission: int = 1) -> int:
    request = claim_request(
        table=TABLE, run_id=RUN, submission=submission, job_id=job_id, attempt=attempt, claimed_at=NOW
    )
    return int(client.update_item(**request)["Attributes"]["epoch"]["N"])


def is_refused(client: "DynamoDBClient", **wish: Any) -> bool:
    try:
        claim(client, **wish)
    except client.exceptions.ConditionalCheckFailedException:
        return True
    return False


def stored(ledger: DynamoDBLedger) -> Run:
    run = ledger.get(RUN)
    assert run is not None
    return run


def test_a_claim_gives_the_next_epoch_and_the_control_plane_reads_it(client: "DynamoDBClient") -> None:
    ledger = start(client, state=RunState.SUBMITTED, job_id="job-1", version=2)

    assert claim(client) == 1

    run = stored(ledger)
    assert (run.state, run.epoch, run.version) == (RunState.RUNNING, 1, 3)
    assert (run.job_id, run.claimed_job_id, run.claimed_attempt, run.claimed_at) == ("job-1", "job-1", 1, NOW)


def test_the_first_job_to_come_may_claim_before_its_submission_is_recorded(client: "DynamoDBClient") -> None:
    ledger = start(client)

    assert claim(client) == 1
    assert stored(ledger).job_id == "job-1"
    assert is_refused(client, job_id="job-2")


def test_a_higher_attempt_takes_over_and_the_epoch_rises(client: "DynamoDBClient") -> None:
    start(client, job_id="job-1")
    assert [claim(client, attempt=1), claim(client, attempt=2), claim(client, attempt=10)] == [1, 2, 3]


def test_the_same_attempt_may_claim_again_after_a_lost_reply(client: "DynamoDBClient") -> None:
    start(client, job_id="job-1")
    assert [claim(client, attempt=2), claim(client, attempt=2)] == [1, 2]


def test_an_older_attempt_is_refused(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")
    claim(client, attempt=3)

    assert is_refused(client, attempt=2)
    assert stored(ledger).epoch == 1


def test_another_job_or_submission_is_refused(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")

    assert is_refused(client, job_id="job-2", attempt=5)
    assert is_refused(client, submission=2)
    assert stored(ledger).epoch == 0


def test_a_run_of_nobody_is_refused(client: "DynamoDBClient") -> None:
    assert is_refused(client)


def test_nobody_claims_a_run_that_is_being_cancelled(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")
    ledger.advance(stored(ledger), cancel_requested_at=NOW)

    assert is_refused(client)


def test_nobody_claims_a_run_that_is_being_paused(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")
    ledger.advance(stored(ledger), pause_requested_at=NOW)

    assert is_refused(client)


@pytest.mark.parametrize("attempt", [1, 3, 10])
def test_the_old_job_of_a_requeued_run_can_never_claim_and_the_next_can(client: "DynamoDBClient", attempt: int) -> None:
    ledger = start(client, job_id="job-1", state=RunState.SUBMITTED)
    claim(client, attempt=3)
    run = stored(ledger)
    ledger.advance(run, **next_submission(run, now=NOW))

    assert is_refused(client, job_id="job-1", attempt=attempt, submission=1)
    assert claim(client, job_id="job-2", attempt=1, submission=2) == 2
    assert is_refused(client, job_id="job-1", attempt=attempt, submission=1)
    assert (stored(ledger).job_id, stored(ledger).epoch) == ("job-2", 2)


@pytest.mark.parametrize("state", [*RESTING_STATES, *FINAL_STATES])
def test_nobody_claims_a_run_that_rests_or_has_ended(client: "DynamoDBClient", state: RunState) -> None:
    start(client, job_id="job-1", state=state)
    assert is_refused(client)


def test_a_write_of_the_control_plane_that_did_not_see_the_claim_is_refused(client: "DynamoDBClient") -> None:
    ledger = start(client)
    before = stored(ledger)
    claim(client)

    with pytest.raises(Exception, match="ConditionalCheckFailed"):
        ledger.advance(before, state=RunState.SUBMITTED, job_id="job-1")
    assert stored(ledger).state is RunState.RUNNING


@pytest.mark.parametrize("step", [None, 1200])
def test_a_completion_of_the_current_epoch_is_read_by_the_control_plane(
    client: "DynamoDBClient", step: int | None
) -> None:
    ledger = start(client, job_id="job-1")
    epoch = claim(client)

    client.update_item(**completion_request(table=TABLE, run_id=RUN, epoch=epoch, step=step, completed_at=NOW))

    run = stored(ledger)
    assert run.is_complete
    assert run.completion is not None
    assert (run.completion.step, run.completion.completed_at) == (step, NOW)


def test_nobody_claims_a_run_that_is_complete_and_the_refusal_says_so(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")
    epoch = claim(client, attempt=1)
    client.update_item(**completion_request(table=TABLE, run_id=RUN, epoch=epoch, step=9, completed_at=NOW))

    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as raised:
        claim(client, attempt=2)

    item: Any = dict(raised.value.response)["Item"]
    assert item["completion"]["M"]["step"] == {"N": "9"}
    assert stored(ledger).is_complete


def test_a_completion_of_an_older_epoch_is_refused(client: "DynamoDBClient") -> None:
    ledger = start(client, job_id="job-1")
    claim(client, attempt=1)
    claim(client, attempt=2)

    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.update_item(**completion_request(table=TABLE, run_id=RUN, epoch=1, step=5, completed_at=NOW))
    assert not stored(ledger).is_complete


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_a_completion_of_a_run_that_has_ended_is_refused(client: "DynamoDBClient", state: RunState) -> None:
    ledger = start(client, job_id="job-1")
    epoch = claim(client)
    ledger.advance(stored(ledger), state=state)

    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.update_item(**completion_request(table=TABLE, run_id=RUN, epoch=epoch, step=5, completed_at=NOW))
    assert not stored(ledger).is_complete


@pytest.mark.parametrize("observed_first", [True, False])
def test_what_an_attempt_says_of_its_place_joins_what_is_observed_of_it(
    client: "DynamoDBClient", *, observed_first: bool
) -> None:
    ledger = start(client, job_id="job-1")
    place = placement_request(
        table=TABLE,
        run_id=RUN,
        submission=1,
        job_id="job-1",
        attempt=1,
        epoch=1,
        claimed_at=NOW,
        placement={
            "instance_id": "i-1",
            "instance_type": "c6i.xlarge",
            "availability_zone": "us-east-1a",
            "market": "spot",
        },
    )

    def observe() -> None:
        known = {item.attempt: item for item in ledger.attempts(RUN)}
        ledger.record_attempt(known.get(1) or Attempt(run_id=RUN, submission=1, attempt=1), started_at=NOW)

    steps = [observe, lambda: client.update_item(**place)]
    for step in steps if observed_first else reversed(steps):
        step()

    (attempt,) = ledger.attempts(RUN)
    assert (attempt.instance_id, attempt.instance_type, attempt.epoch) == ("i-1", "c6i.xlarge", 1)
    assert (attempt.started_at, attempt.version) == (NOW, 1)
