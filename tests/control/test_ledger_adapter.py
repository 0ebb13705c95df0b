import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from spotkeeper.contract import ledger as contract
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.measures import Measures
from spotkeeper.control.ports import Conflict, Ledger, Throttled
from spotkeeper.control.run import Attempt, Completion, HistoryEvent, Interruption
from spotkeeper.control.submit import next_submission
from tests.control.fakes import MemoryLedger, new_run
from tests.control.ledger_table import TABLE, dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def client() -> Iterator["DynamoDBClient"]:
    with dynamodb() as made:
        yield made


@pytest.fixture(params=["dynamodb", "memory"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """The adapter, and the fake that other tests believe: the same tests hold them to the same behaviour."""
    if request.param == "memory":
        yield MemoryLedger()
    else:
        with dynamodb() as made:
            yield DynamoDBLedger(made, TABLE)


FULL = new_run(
    state=RunState.RUNNING,
    job_id="job-1",
    claimed_job_id="job-1",
    claimed_attempt=2,
    claimed_at="2026-11-23T18:05:00+00:00",
    epoch=2,
    version=6,
    completion=Completion(epoch=2, completed_at="2026-11-23T19:00:00+00:00", step=1200),
    cancel_requested_at="2026-11-23T19:01:00+00:00",
    pause_requested_at="2026-11-23T19:02:00+00:00",
    intent_at="2026-11-23T18:04:00+00:00",
    wait_until="2026-11-23T19:03:00+00:00",
    committed_step=1100,
    num_stalls=1,
    num_capacity_waits=2,
    image="repository@sha256:" + "a" * 64,
    source_sha256="b" * 64,
    reason="x",
)


@pytest.mark.parametrize("run", [new_run(), FULL, new_run(variables={}, command=("true",))])
def test_a_run_is_read_back_as_it_was_written(ledger: Ledger, run: Any) -> None:
    ledger.create(run)

    assert ledger.get(run.run_id) == run


def test_an_unknown_run_is_none(ledger: Ledger) -> None:
    assert ledger.get("nobody-1") is None


def test_creating_the_same_run_again_is_no_error_but_another_of_its_id_is(ledger: Ledger) -> None:
    ledger.create(new_run())

    assert ledger.create(new_run()) == new_run()
    with pytest.raises(Conflict):
        ledger.create(new_run(team="other"))
    assert ledger.get("digits-7fq2") == new_run()


def test_an_advance_writes_its_changes_and_raises_the_version(ledger: Ledger) -> None:
    run = ledger.create(new_run())

    after = ledger.advance(run, state=RunState.SUBMITTED, job_id="job-1")

    assert after == replace(run, state=RunState.SUBMITTED, job_id="job-1", version=2)
    assert ledger.get(run.run_id) == after


def test_an_advance_with_none_removes_the_field(ledger: Ledger) -> None:
    run = ledger.create(new_run(reason="waiting"))

    ledger.advance(run, reason=None, state=RunState.FAILED)

    stored = ledger.get(run.run_id)
    assert stored is not None
    assert stored.reason is None


def test_an_advance_from_an_older_version_is_a_conflict_and_writes_nothing(ledger: Ledger) -> None:
    stale = ledger.create(new_run())
    current = ledger.advance(stale, job_id="job-1")

    with pytest.raises(Conflict):
        ledger.advance(stale, job_id="job-2", state=RunState.FAILED)
    assert ledger.get(stale.run_id) == current


def test_an_advance_backward_is_refused_before_it_is_written(ledger: Ledger) -> None:
    run = ledger.create(new_run(state=RunState.SUCCEEDED))

    with pytest.raises(ValueError, match="cannot go from succeeded"):
        ledger.advance(run, state=RunState.FAILED)
    assert ledger.get(run.run_id) == run


def test_a_closed_run_moves_from_the_open_list_to_the_closed(ledger: Ledger) -> None:
    older = ledger.create(new_run("older-1", created_at="2026-11-22T00:00:00+00:00"))
    ledger.create(new_run("newer-1", created_at="2026-11-23T00:00:00+00:00"))

    closed = ledger.advance(older, state=RunState.FAILED, closed_at="2026-11-24T00:00:00+00:00")

    assert [run.run_id for run in ledger.list_runs("open", 10)] == ["newer-1"]
    assert ledger.list_runs("closed", 10) == (closed,)


def test_runs_are_listed_newest_first_up_to_the_limit(client: "DynamoDBClient") -> None:
    ledger = DynamoDBLedger(client, TABLE)
    for day in (1, 3, 2, 4):
        ledger.create(new_run(f"run-{day}", created_at=f"2026-11-0{day}T00:00:00+00:00"))

    assert [run.run_id for run in ledger.list_runs("open", 3)] == ["run-4", "run-3", "run-2"]


def test_open_runs_are_found_oldest_first_over_all_pages_without_the_closed(ledger: Ledger) -> None:
    for number in range(250):
        ledger.create(new_run(f"run-{number}", created_at=f"2026-11-01T00:{number // 60:02}:{number % 60:02}+00:00"))
    closed = ledger.get("run-7")
    assert closed is not None
    ledger.advance(closed, state=RunState.CANCELLED)

    assert [entry.run_id for entry in ledger.open_runs()] == [f"run-{number}" for number in range(250) if number != 7]


def test_open_runs_are_found_behind_a_place_that_need_not_be_listed_any_more(ledger: Ledger) -> None:
    # Members of a sweep are of one moment; their order is the index's own.
    for number in range(5):
        ledger.create(new_run(f"run-{number}", created_at=f"2026-11-01T00:00:0{number // 3}+00:00"))
    everyone = list(ledger.open_runs())
    place = everyone[1]
    left = ledger.get(place.run_id)
    assert left is not None
    ledger.advance(left, state=RunState.CANCELLED)

    assert list(ledger.open_runs(behind=place)) == everyone[2:]
    assert list(ledger.open_runs(behind=everyone[-1])) == []


def test_many_runs_are_read_in_the_order_of_their_ids_without_those_that_there_are_not(ledger: Ledger) -> None:
    runs = {number: ledger.create(new_run(f"run-{number}")) for number in range(100)}

    assert ledger.get_many([f"run-{number}" for number in (*range(98, 0, -1), 500)]) == tuple(
        runs[number] for number in range(98, 0, -1)
    )
    assert ledger.get_many([]) == ()


def test_a_run_that_has_left_a_listing_since_the_index_was_asked_is_not_listed(client: "DynamoDBClient") -> None:
    ledger = DynamoDBLedger(client, TABLE)
    run = ledger.create(new_run())

    def close(**_: Any) -> None:
        client.meta.events.unregister("before-call.dynamodb.BatchGetItem", close)
        ledger.advance(run, state=RunState.CANCELLED)

    client.meta.events.register("before-call.dynamodb.BatchGetItem", close)

    assert ledger.list_runs("open", 10) == ()


def test_a_read_of_many_that_dynamodb_has_no_time_for_is_throttled(client: "DynamoDBClient") -> None:
    keys = {"Keys": [{"pk": {"S": "RUN#run-1"}, "sk": {"S": "RUN"}}], "ConsistentRead": True}
    with Stubber(client) as stubber:
        stubber.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": {TABLE: keys}})
        with pytest.raises(Throttled):
            DynamoDBLedger(client, TABLE).get_many(["run-1"])


@pytest.mark.parametrize(
    "last", [None, Listed(created_at="T", run_id="run-1"), Listed(created_at="T", run_id="run-1", submission=2)]
)
def test_how_far_the_sweeper_has_come_is_kept_by_listing(ledger: Ledger, last: Listed | None) -> None:
    assert ledger.position("open") is None

    ledger.keep_position("open", Position(began_at="T0", last=Listed(created_at="T", run_id="run-0")))
    ledger.keep_position("open", Position(began_at="T1", last=last))

    assert ledger.position("open") == Position(began_at="T1", last=last)

    measured = Position(began_at="T2", whole=Measures(num_hosts_lost=7), part=Measures(checkpoint_age_seconds=61))
    ledger.keep_position("open", measured)
    assert ledger.position("open") == measured
    assert ledger.position("unsettled") is None


def test_the_newest_start_of_a_queue_is_kept(ledger: Ledger) -> None:
    assert ledger.last_start("arn:spot") is None

    for second in ("05", "07", "06"):
        ledger.record_start("arn:spot", at=f"2026-11-23T18:00:{second}+00:00")

    assert ledger.last_start("arn:spot") == "2026-11-23T18:00:07+00:00"
    assert ledger.last_start("arn:on-demand") is None


def test_a_claim_ends_the_wait_for_a_machine(client: "DynamoDBClient") -> None:
    ledger = DynamoDBLedger(client, TABLE)
    run = ledger.create(new_run())
    ledger.advance(run, waits_since="T", waits_why="CAPACITY")

    client.update_item(
        **contract.claim_request(
            table=TABLE, run_id=run.run_id, submission=1, job_id="job-1", attempt=1, claimed_at="T1"
        )
    )

    claimed = ledger.get(run.run_id)
    assert claimed is not None
    assert (claimed.state, claimed.waits_since, claimed.waits_why) == (RunState.RUNNING, None, None)


def test_a_next_submission_removes_the_job_so_that_the_next_may_claim(ledger: Ledger) -> None:
    run = ledger.create(new_run(state=RunState.RUNNING, job_id="job-1", epoch=1, claimed_job_id="job-1"))

    ledger.advance(run, **next_submission(run, now="2026-11-23T19:00:00+00:00"))

    stored = ledger.get(run.run_id)
    assert stored is not None
    assert (stored.state, stored.submission, stored.job_id) == (RunState.SUBMITTING, 2, None)
    assert stored.intent_at == "2026-11-23T19:00:00+00:00"


def test_attempts_are_read_in_the_order_in_which_they_ran(ledger: Ledger) -> None:
    for submission, attempt in ((2, 1), (1, 10), (1, 2)):
        ledger.record_attempt(Attempt(run_id="r-1", submission=submission, attempt=attempt), job_id="job-1")
    ledger.append_event("r-1", HistoryEvent(at="2026-11-23T18:00:00+00:00", event_id="e", kind="k", message="m"))

    assert [(item.submission, item.attempt) for item in ledger.attempts("r-1")] == [(1, 2), (1, 10), (2, 1)]


def test_an_attempt_is_read_back_as_it_was_recorded(ledger: Ledger) -> None:
    unseen = Attempt(run_id="r-1", submission=1, attempt=1)

    recorded = ledger.record_attempt(unseen, job_id="job-1", exit_code=0, started_at="2026-11-23T18:00:00+00:00")

    assert recorded.version == 1
    assert ledger.attempts("r-1") == (recorded,)


def test_recording_an_attempt_from_an_older_version_is_a_conflict(ledger: Ledger) -> None:
    unseen = Attempt(run_id="r-1", submission=1, attempt=1)
    first = ledger.record_attempt(unseen, cause="host-lost")
    second = ledger.record_attempt(first, cause="interrupted")

    for stale in (unseen, first):
        with pytest.raises(Conflict):
            ledger.record_attempt(stale, cause="host-lost")
    assert ledger.attempts("r-1") == (second,)


def test_what_is_known_of_an_instance_stays_and_grows(ledger: Ledger) -> None:
    ledger.record_interruption(Interruption(instance_id="i-1", rebalance_at="T1"), expires_at=100)
    ledger.record_interruption(Interruption(instance_id="i-1", warned_at="T2", action="terminate"), expires_at=200)
    ledger.record_interruption(Interruption(instance_id="i-1", warned_at="T3", action="stop"), expires_at=300)

    known = Interruption(instance_id="i-1", rebalance_at="T1", warned_at="T2", action="terminate")
    assert ledger.interruption_of("i-1") == known
    assert ledger.interruption_of("i-2") is None


def test_an_interruption_expires_by_the_tables_time_to_live(client: "DynamoDBClient") -> None:
    DynamoDBLedger(client, TABLE).record_interruption(Interruption(instance_id="i-1", warned_at="T"), expires_at=1700)

    key = {"pk": {"S": "INSTANCE#i-1"}, "sk": {"S": "INTERRUPTION"}}
    assert client.get_item(TableName=TABLE, Key=key)["Item"][contract.TIME_TO_LIVE] == {"N": "1700"}


def test_history_is_appended_once_an_event_in_order_of_time(ledger: Ledger) -> None:
    late = HistoryEvent(at="2026-11-23T19:00:00+00:00", event_id="b", kind="queue-blocked", message="late")
    early = HistoryEvent(at="2026-11-23T18:00:00+00:00", event_id="a", kind="queue-blocked", message="early")
    for event in (late, early, replace(late, message="changed")):
        ledger.append_event("r-1", event)

    assert ledger.history("r-1") == (early, late)


def test_fields_of_a_newer_version_are_left_alone(client: "DynamoDBClient") -> None:
    ledger = DynamoDBLedger(client, TABLE)
    run = ledger.create(new_run())
    key: Any = {"pk": {"S": "RUN#digits-7fq2"}, "sk": {"S": "RUN"}}
    client.update_item(
        TableName=TABLE,
        Key=key,
        UpdateExpression="SET standby = :standby",
        ExpressionAttributeValues={":standby": {"S": "job-9"}},
    )

    ledger.advance(run, state=RunState.SUBMITTED)

    item = client.get_item(TableName=TABLE, Key=key)["Item"]
    assert item["standby"] == {"S": "job-9"}
    assert ledger.get("digits-7fq2") == replace(run, state=RunState.SUBMITTED, version=2)


def test_conditions_keep_to_the_grammar_of_dynamodb_which_has_no_arithmetic(client: "DynamoDBClient") -> None:
    """moto accepts more than AWS does, so every condition sent is held against AWS's own grammar."""
    conditions: list[str] = []

    def collect(params: dict[str, Any], **_: Any) -> None:
        conditions.append(params.get("ConditionExpression", ""))

    client.meta.events.register("provide-client-params.dynamodb.*", collect)
    ledger = DynamoDBLedger(client, TABLE)
    run = ledger.create(new_run())
    ledger.advance(run, job_id="job-1", reason=None)
    seen = ledger.record_attempt(Attempt(run_id="r-1", submission=1, attempt=1), cause="x")
    ledger.record_attempt(seen, cause="y")
    ledger.record_interruption(Interruption(instance_id="i-1", warned_at="T"), expires_at=1)
    ledger.append_event("r-1", HistoryEvent(at="T", event_id="e", kind="k", message="m"))
    ledger.take_submission_slot(second=1, team="research", limit=40, team_limit=20)
    ledger.record_start("arn:spot", at="T")
    claim = contract.claim_request(table=TABLE, run_id="r", submission=1, job_id="j", attempt=1, claimed_at="T")
    conditions.append(claim["ConditionExpression"])
    conditions.append(
        contract.completion_request(table=TABLE, run_id="r", epoch=1, step=None, completed_at="T")[
            "ConditionExpression"
        ]
    )

    sent = [condition for condition in conditions if condition]
    operand = r"(?:[#:][a-z_0-9]+)"
    comparison = rf"{operand} (?:=|<>|<|<=|>|>=) {operand}"
    membership = rf"{operand} IN \({operand}(?:, {operand})*\)"
    function = rf"attribute_(?:not_)?exists\({operand}\)"
    term = rf"(?:{comparison}|{membership}|{function})"
    group = rf"(?:{term}|\({term}(?: (?:AND|OR) {term})*\))"
    assert len(sent) >= 8
    for condition in sent:
        assert re.fullmatch(rf"{group}(?: (?:AND|OR) {group})*", condition), condition
