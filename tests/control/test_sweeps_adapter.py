from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import member_id
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.aws.others import DynamoDBOthersJobs
from spotkeeper.control.aws.sweeps import DynamoDBSweeps
from spotkeeper.control.others import OthersJob
from spotkeeper.control.ports import Conflict, Ledger, OthersJobs, Sweeps, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord
from tests.control.fakes import NOW, MemoryLedger, MemoryOthers, MemorySweeps, new_run
from tests.control.ledger_table import TABLE, dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RECORD = SweepRecord(name="lr", created_at=NOW, size=130, parameters=("LR", "SEED"), digest="abc")
SECOND = "2026-11-23T18:00:05+00:00"


@pytest.fixture
def client() -> Iterator["DynamoDBClient"]:
    with dynamodb() as made:
        yield made


@pytest.fixture(params=["dynamodb", "memory"])
def stores(request: pytest.FixtureRequest) -> Iterator[tuple[Ledger, Sweeps, OthersJobs]]:
    """The adapters, and the fakes that other tests believe: the same tests hold them to the same behaviour."""
    if request.param == "memory":
        ledger = MemoryLedger()
        yield ledger, MemorySweeps(ledger), MemoryOthers()
    else:
        with dynamodb() as made:
            yield DynamoDBLedger(made, TABLE), DynamoDBSweeps(made, TABLE), DynamoDBOthersJobs(made, TABLE)


def members(number: int = 100, **changes: Any) -> list[Run]:
    return [new_run(member_id("lr", index), sweep="lr", array_index=index, **changes) for index in range(number)]


Stores = tuple[Ledger, Sweeps, OthersJobs]


def test_a_sweep_is_read_back_as_it_was_recorded_and_the_first_of_a_name_counts(stores: Stores) -> None:
    _, sweeps, _ = stores

    assert sweeps.get("lr") is None
    assert sweeps.create(RECORD) == RECORD
    assert sweeps.create(replace(RECORD, digest="other")) == RECORD
    assert sweeps.get("lr") == RECORD


def test_the_array_is_marked_as_sent_by_one_and_unmarked_by_the_same(stores: Stores) -> None:
    _, sweeps, _ = stores
    sweeps.create(RECORD)

    sent = sweeps.mark_sent(RECORD, at=NOW)
    with pytest.raises(Conflict):
        sweeps.mark_sent(RECORD, at=SECOND)
    assert sweeps.get("lr") == sent == replace(RECORD, sent_at=NOW)
    assert sweeps.mark_sent(sent, at=None) == sweeps.get("lr") == RECORD
    with pytest.raises(Conflict):
        sweeps.mark_sent(sent, at=None)


def test_members_are_created_by_the_hundred_and_read_in_the_order_of_their_index(stores: Stores) -> None:
    ledger, sweeps, _ = stores
    everyone = members(130)

    sweeps.create_members(everyone[100:])
    assert [run.array_index for run in sweeps.members(RECORD)] == list(range(100, 130))
    sweeps.create_members(everyone[:100])

    assert list(sweeps.members(RECORD)) == everyone
    assert {entry.run_id for entry in ledger.open_runs()} == {run.run_id for run in everyone}


def test_members_that_are_there_already_stay_as_they_are(stores: Stores) -> None:
    ledger, sweeps, _ = stores
    everyone = members(3)
    sweeps.create_members(everyone[:2])
    moved = ledger.advance(everyone[1], state=RunState.SUBMITTED, job_id="job-1:1")

    sweeps.create_members([replace(run, created_at=SECOND) for run in everyone])

    assert [ledger.get(run.run_id) for run in everyone] == [
        everyone[0],
        moved,
        replace(everyone[2], created_at=SECOND),
    ]


def test_an_id_that_another_run_has_is_a_conflict_and_nothing_is_created(stores: Stores) -> None:
    ledger, sweeps, _ = stores
    ledger.create(new_run("lr-0001"))

    with pytest.raises(Conflict):
        sweeps.create_members(members(3))

    assert ledger.get("lr-0000") is None


def test_members_that_somebody_creates_between_read_and_write_are_no_error(client: "DynamoDBClient") -> None:
    sweeps, (first, second) = DynamoDBSweeps(client, TABLE), members(2)

    def create_first(**_: Any) -> None:
        client.meta.events.unregister("before-call.dynamodb.TransactWriteItems", create_first)
        DynamoDBLedger(client, TABLE).create(first)

    client.meta.events.register("before-call.dynamodb.TransactWriteItems", create_first)
    sweeps.create_members([first, second])

    assert list(sweeps.members(RECORD)) == [first, second]


def test_a_transaction_that_dynamodb_has_no_time_for_is_throttled(client: "DynamoDBClient") -> None:
    with Stubber(client) as stubber:
        for _ in range(2):
            stubber.add_response("batch_get_item", {"Responses": {TABLE: []}, "UnprocessedKeys": {}})
            stubber.add_client_error("transact_write_items", "TransactionCanceledException")
        with pytest.raises(Throttled):
            DynamoDBSweeps(client, TABLE).create_members(members(1))


def test_keys_that_one_answer_leaves_out_are_asked_for_again(client: "DynamoDBClient") -> None:
    keys = [{"pk": {"S": f"RUN#lr-000{index}"}, "sk": {"S": "RUN"}} for index in range(2)]
    with Stubber(client) as stubber:
        stubber.add_response(
            "batch_get_item",
            {"Responses": {}, "UnprocessedKeys": {TABLE: {"Keys": keys[1:], "ConsistentRead": True}}},
            {"RequestItems": {TABLE: {"Keys": keys, "ConsistentRead": True}}},
        )
        stubber.add_response(
            "batch_get_item",
            {"Responses": {}, "UnprocessedKeys": {}},
            {"RequestItems": {TABLE: {"Keys": keys[1:], "ConsistentRead": True}}},
        )
        assert list(DynamoDBSweeps(client, TABLE).members(replace(RECORD, size=2))) == []
        stubber.assert_no_pending_responses()


JOB = OthersJob(
    job_id="theirs-1",
    name="etl",
    queue="arn:queue",
    status="RUNNING",
    created_at=NOW,
    observed_at=NOW,
    team="research",
    num_attempts=1,
    ran_seconds=60,
    most_microusd=1_000_000,
    pricing="at most",
    why_no_run="no tag",
    facts=2,
)


def test_others_jobs_are_listed_newest_first_as_they_were_recorded(stores: Stores) -> None:
    _, _, others = stores
    newer = replace(JOB, job_id="theirs-2", created_at=SECOND, team=None, most_microusd=None, reason="x")

    assert others.record(JOB, expires_at=1)
    assert others.record(newer, expires_at=1)

    assert others.list_jobs(10) == (newer, JOB)
    assert others.list_jobs(1) == (newer,)


def test_a_record_of_a_job_is_replaced_by_one_that_knows_more_alone(stores: Stores) -> None:
    _, _, others = stores
    ended = replace(JOB, status="FAILED", facts=4)

    assert others.record(ended, expires_at=1)
    assert not others.record(JOB, expires_at=1)
    assert not others.record(ended, expires_at=1)

    assert others.list_jobs(10) == (ended,)


def test_others_jobs_are_no_runs_and_expire(client: "DynamoDBClient") -> None:
    DynamoDBOthersJobs(client, TABLE).record(JOB, expires_at=1234)

    item = client.get_item(TableName=TABLE, Key={"pk": {"S": "OTHERS#theirs-1"}, "sk": {"S": "JOB"}})["Item"]
    assert item["expires_at"] == {"N": "1234"}
    assert list(DynamoDBLedger(client, TABLE).open_runs()) == []
