import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.client import BaseClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.sagemaker.models import sagemaker_backends

from lambdas.observe_job.handler import handle as observe_job
from lambdas.record_blocked_queue.handler import handle as record_blocked_queue
from lambdas.record_interruption.handler import handle as record_interruption
from lambdas.sweep_runs.handler import handle as sweep_runs
from spotkeeper.contract.ledger import RunState, claim_request, completion_request
from spotkeeper.contract.training import STOP_REASON_TAG
from spotkeeper.control.aws import binding
from spotkeeper.control.aws.binding import HandlerSettings
from spotkeeper.control.cancel import cancel
from spotkeeper.control.run import Attempt, Interruption
from spotkeeper.control.submit import submit
from spotkeeper.control.training_request import training_request
from tests.control.fakes import NOW, new_run
from tests.control.ledger_table import TABLE
from tests.control.mocked_aws import REGION
from tests.control.recorded_events import BLOCKED, JOB_CHANGE, REBALANCE, SCHEDULED, WARNING, job_change
from tests.control.training import ACCOUNT, PROFILE, training_run
from tests.lambdas.invocation import CONTEXT, context, counted, failed, sqs

if TYPE_CHECKING:
    from spotkeeper.ops.connection import Connection

HANDLERS = [record_interruption, observe_job, record_blocked_queue, sweep_runs]


def start(connection: "Connection", run_id: str = "digits-7fq2") -> str:
    """Submit a run; moto ends its job at once. Return the job's id."""
    profile = connection.descriptor.profiles["cpu"]
    run = new_run(run_id, job_queue=profile.spot_queue, job_definition=profile.job_definition)
    job_id = submit(run, ports=connection.ports, now=NOW).job_id
    assert job_id is not None
    return job_id


def finish(job_id: str) -> None:
    """What the trainer writes: its claim and its completion record."""
    client = boto3.client("dynamodb", region_name=REGION)
    client.update_item(
        **claim_request(table=TABLE, run_id="digits-7fq2", submission=1, job_id=job_id, attempt=1, claimed_at=NOW)
    )
    client.update_item(**completion_request(table=TABLE, run_id="digits-7fq2", epoch=1, step=1200, completed_at=NOW))


def state(connection: "Connection") -> RunState:
    run = connection.ledger.get("digits-7fq2")
    assert run is not None
    return run.state


@pytest.mark.usefixtures("environment")
def test_no_client_of_a_handler_waits_for_aws_as_long_as_the_handler_lives() -> None:
    ports: Any = binding.ports()
    services = (ports.batch.batch, ports.batch.sagemaker())
    adapters = (
        *(binding.ledger(), binding.batch(), ports.budgets, *services, ports.checkpoints, ports.others),
        ports.mirrors,
    )
    clients = [part for adapter in adapters for part in vars(adapter).values() if isinstance(part, BaseClient)]
    clients.append(ports.spot_prices._client())

    tries = []
    for client in clients:
        config: Any = client.meta.config
        assert (config.connect_timeout, config.read_timeout) == (2, 5)
        tries.append(config.retries["total_max_attempts"])
    # SubmitJob is never repeated.
    assert sorted(tries) == [1, *[3] * 9]


@pytest.mark.usefixtures("environment")
def test_a_handler_keeps_its_clients_when_it_reads_the_descriptor_anew_and_makes_none_that_nothing_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = boto3.Session()
    made: list[str] = []
    session.events.register("creating-client-class", lambda event_name, **_: made.append(event_name.split(".")[1]))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)

    binding.ports()
    binding._ports.cache_clear()  # five minutes later
    binding.ports()

    # The second of Batch's submits. EC2's and SageMaker's take longest to make.
    assert sorted(made) == ["batch", "batch", "dynamodb", "s3", "ssm"]


def test_notices_are_recorded_under_their_instance_and_counted(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    result = record_interruption(sqs(WARNING, REBALANCE, WARNING), CONTEXT)

    assert failed(result) == []
    assert environment.ledger.interruption_of("i-1234567890abcdef0") == Interruption(
        instance_id="i-1234567890abcdef0",
        warned_at="2026-11-23T18:00:00+00:00",
        action="terminate",
        rebalance_at="2026-11-23T18:00:00+00:00",
    )
    assert counted(capsys.readouterr().out) == {
        "InterruptionWarnings": 2,
        "RebalanceRecommendations": 1,
        "EventsReceived": 3,
    }


def test_an_ended_job_with_completion_record_closes_its_run_as_succeeded(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = start(environment)
    finish(job_id)

    result = observe_job(sqs(job_change(job_id, "SUCCEEDED")), CONTEXT)

    assert failed(result) == []
    assert state(environment) is RunState.SUCCEEDED
    assert counted(capsys.readouterr().out)["RunsClosed"] == 1


def test_an_event_that_lies_about_the_state_is_checked_with_batch(environment: "Connection") -> None:
    """The job really succeeded; the event says FAILED."""
    job_id = start(environment)
    finish(job_id)

    observe_job(sqs(job_change(job_id, "FAILED")), CONTEXT)

    assert state(environment) is RunState.SUCCEEDED


@pytest.mark.parametrize("by_sweep", [False, True], ids=["event", "sweep"])
def test_a_run_that_ends_says_what_it_cost_and_what_its_machine_time_costs_on_demand(
    environment: "Connection", capsys: pytest.CaptureFixture[str], *, by_sweep: bool
) -> None:
    job_id = start(environment)
    for number, market, zone in ((1, "spot", "us-east-1a"), (2, "on-demand", "us-east-1b"), (3, "spot", "nowhere-1a")):
        environment.ledger.record_attempt(
            Attempt(run_id="digits-7fq2", submission=1, attempt=number + 1),
            started_at="2026-11-20T00:00:00+00:00",
            stopped_at=f"2026-11-20T0{number}:00:00+00:00",
            market=market,
            instance_type="m6i.xlarge",
            availability_zone=zone,
        )
    finish(job_id)

    told = (
        sweep_runs(sqs(SCHEDULED), CONTEXT) if by_sweep else observe_job(sqs(job_change(job_id, "SUCCEEDED")), CONTEXT)
    )

    assert failed(told) == []
    seen = counted(capsys.readouterr().out)
    assert seen["RunsClosed"] == 1
    # moto says that spot costs next to nothing in a zone that it knows; in no other is a price known.
    assert seen["OnDemandDollars"] == pytest.approx(2 * 3.6)
    assert seen["SpotDollars"] == pytest.approx(3 * 3.6, abs=0.01)
    assert seen["OnDemandEquivalentDollars"] == pytest.approx(6 * 3.6, abs=0.01)
    assert seen["SavedDollars"] == pytest.approx(3.6, abs=0.01)


def test_an_ended_job_without_completion_record_is_no_success(environment: "Connection") -> None:
    job_id = start(environment)

    observe_job(sqs(job_change(job_id, "SUCCEEDED")), CONTEXT)

    assert state(environment) is RunState.FAILED


def test_a_forged_event_of_a_job_that_batch_does_not_know_changes_nothing(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    start(environment)

    result = observe_job(sqs(job_change("11111111-2222", "FAILED")), CONTEXT)

    assert failed(result) == []
    assert state(environment) is RunState.SUBMITTED
    assert counted(capsys.readouterr().out) == {"EventsIgnored": 1, "EventsReceived": 1}


def test_a_sweep_closes_a_run_of_whose_end_no_event_told(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    finish(start(environment))

    result = sweep_runs(sqs(SCHEDULED), CONTEXT)

    assert failed(result) == []
    assert state(environment) is RunState.SUCCEEDED
    assert counted(capsys.readouterr().out) == {
        "RunsClosed": 1,
        "Sweeps": 1,
        "SweepRepairs": 1,
        "WaitsOverLimit": 0,
        "CheckpointAge": 0,
        "RunsWithoutProgress": 0,
        "BudgetLeft": 100,
        "EventsReceived": 1,
    }


@pytest.mark.usefixtures("environment")
def test_a_sweep_of_nothing_still_beats(capsys: pytest.CaptureFixture[str]) -> None:
    sweep_runs(sqs(SCHEDULED), CONTEXT)

    counts = counted(capsys.readouterr().out)
    assert counts["Sweeps"] == 1
    assert "SweepRepairs" not in counts


@pytest.mark.parametrize("handle", [observe_job, sweep_runs])
def test_a_message_for_which_no_time_is_left_is_given_back_before_anything_is_done(
    environment: "Connection", capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, handle: Any
) -> None:
    job_id = start(environment)
    finish(job_id)
    message = SCHEDULED if handle is sweep_runs else job_change(job_id, "SUCCEEDED")

    result = handle(sqs(message), context(remaining_milliseconds=20_000))

    assert len(failed(result)) == 1
    assert "OutOfTime: too little time is left" in caplog.text
    assert counted(capsys.readouterr().out) == {"EventsReceived": 1, "EventsFailed": 1}
    assert state(environment) is RunState.RUNNING


def test_a_waiting_run_that_is_due_is_submitted_again_by_the_sweep(environment: "Connection") -> None:
    profile = environment.descriptor.profiles["cpu"]
    environment.ledger.create(
        new_run(
            state=RunState.WAITING,
            wait_until="2026-11-23T18:00:00+00:00",
            job_id="job-0",
            job_queue=profile.spot_queue,
            job_definition=profile.job_definition,
        )
    )

    sweep_runs(sqs(SCHEDULED), CONTEXT)

    run = environment.ledger.get("digits-7fq2")
    assert run is not None
    assert (run.state, run.submission, run.job_id is not None) == (RunState.SUBMITTED, 2, True)
    assert environment.batch.find("digits-7fq2-2", queue=profile.spot_queue)[0].job_id == run.job_id


def long_dry(environment: "Connection", **changes: Any) -> None:
    """Record a run that has waited for spot for a month, and is due."""
    profile = environment.descriptor.profiles["cpu"]
    environment.ledger.create(
        new_run(
            **{
                "state": RunState.WAITING,
                "wait_until": "2026-11-23T18:00:00+00:00",
                "dry_since": "2026-10-23T18:00:00+00:00",
                "num_capacity_waits": 9,
                "lacks": "capacity",
                "job_id": "job-0",
                "job_queue": profile.spot_queue,
                "job_definition": profile.job_definition,
                **changes,
            }
        )
    )


def test_a_run_that_spot_gave_nothing_falls_back_with_its_reservation_and_is_counted(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    long_dry(environment, fallback_cap_microusd=20_000_000)

    assert failed(sweep_runs(sqs(SCHEDULED), CONTEXT)) == []

    run = environment.run_of("digits-7fq2")
    queue = environment.descriptor.profiles["cpu"].on_demand_queue
    assert (run.state, run.submission, run.market, run.job_queue) == (RunState.SUBMITTED, 2, "on-demand", queue)
    (job,) = environment.batch.find("digits-7fq2-2", queue=queue)
    assert job.job_id == run.job_id
    (reservation,) = environment.budgets.reservations("digits-7fq2")
    assert reservation.submission == run.submission
    for holder in reservation.holders:
        budget = environment.budgets.get(holder)
        assert budget is not None
        assert budget.fallback.reserved == reservation.microusd
    counts = counted(capsys.readouterr().out)
    assert (counts["Fallbacks"], counts["WaitsOverLimit"]) == (1, 0)
    assert "CapsCrossed" not in counts


def test_a_deadline_that_crosses_its_own_cap_is_counted(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    long_dry(environment, fallback_cap_microusd=1, mode="deadline-first")

    assert failed(sweep_runs(sqs(SCHEDULED), CONTEXT)) == []

    assert counted(capsys.readouterr().out)["CapsCrossed"] == 1
    assert environment.ledger.history("digits-7fq2")[0].kind == "cap-crossed"


def test_a_run_whose_fallback_no_cap_allows_asks_spot_again_and_is_counted_and_named(
    environment: "Connection", capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    long_dry(environment, fallback_cap_microusd=1)

    sweep_runs(sqs(SCHEDULED), CONTEXT)

    assert state(environment) is RunState.SUBMITTED
    counts = counted(capsys.readouterr().out)
    assert counts["WaitsOverLimit"] == 1
    assert "Fallbacks" not in counts
    assert "'digits-7fq2': 'submission 2 has not started yet'" in caplog.text
    (event,) = environment.ledger.history("digits-7fq2")
    assert "the fallback cap of run/digits-7fq2 has $0.000001 left" in event.message


@pytest.mark.parametrize("is_function", [True, False])
def test_a_training_job_is_found_and_stopped_although_the_settings_have_no_sagemaker_any_more(
    environment: "Connection", is_function: bool
) -> None:
    assert environment.descriptor.training is None
    run = training_run()
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    job_id = sagemaker.create_training_job(**training_request(run, profile=PROFILE))["TrainingJobArn"]
    job = sagemaker_backends[ACCOUNT][REGION].training_jobs[f"dev-{run.run_id}-1"]
    job.training_job_status, job.secondary_status = "InProgress", "Training"
    environment.ledger.create(replace(run, state=RunState.RUNNING, job_id=job_id))

    with pytest.raises(NotImplementedError):  # moto cannot stop one
        cancel(run.run_id, ports=binding.ports() if is_function else environment.ports, now=NOW)

    assert STOP_REASON_TAG in [tag["Key"] for tag in sagemaker.list_tags(ResourceArn=job_id)["Tags"]]
    assert environment.run_of(run.run_id).state is RunState.RUNNING


def test_the_terms_come_from_the_parameter_that_the_stack_names(environment: "Connection") -> None:
    assert binding.ports().terms == environment.ports.terms


def test_a_blocked_queue_is_told_in_the_history_of_its_run(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = start(environment)
    blocked = {**BLOCKED, "detail": {**BLOCKED["detail"], "jobId": job_id}}

    result = record_blocked_queue(sqs(blocked, blocked), CONTEXT)

    assert failed(result) == []
    (event,) = environment.ledger.history("digits-7fq2")
    assert event.message.startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")
    assert counted(capsys.readouterr().out)["QueuesBlocked"] == 2


def test_a_forged_word_of_a_blocked_queue_raises_no_alarm(
    environment: "Connection", capsys: pytest.CaptureFixture[str]
) -> None:
    start(environment)

    assert failed(record_blocked_queue(sqs(BLOCKED), CONTEXT)) == []

    assert environment.ledger.history("digits-7fq2") == ()
    assert counted(capsys.readouterr().out) == {"EventsIgnored": 1, "EventsReceived": 1}


@pytest.mark.parametrize("handle", HANDLERS)
@pytest.mark.usefixtures("environment")
def test_poison_fails_alone_and_never_blocks_the_rest(
    handle: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    deep = "[" * 100_000
    huge = json.dumps({"detail-type": "x" * 250_000})

    result = handle(sqs("not json", WARNING, deep, "[]", "7", JOB_CHANGE, huge, BLOCKED), CONTEXT)

    assert failed(result) == ["message-1", "message-3", "message-4", "message-5"]
    assert "left in the queue: TypeError: the message is not an EventBridge event but a list" in caplog.text
    counts = counted(capsys.readouterr().out)
    assert (counts["EventsReceived"], counts["EventsFailed"]) == (8, 4)
    assert counts["EventsIgnored"] >= 3


@pytest.mark.parametrize("handle", HANDLERS)
@pytest.mark.usefixtures("environment")
def test_a_batch_of_poison_alone_is_reported_message_by_message(handle: Any) -> None:
    assert failed(handle(sqs("{", "{"), CONTEXT)) == ["message-1", "message-2"]


@pytest.mark.parametrize("handle", HANDLERS)
@pytest.mark.usefixtures("environment")
def test_events_of_another_account_are_acknowledged_and_said(
    handle: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    foreign = [{**raw, "account": "999999999999"} for raw in (WARNING, JOB_CHANGE, BLOCKED)]

    result = handle(sqs(*foreign), CONTEXT)

    assert failed(result) == []
    assert caplog.text.count("event of account '999999999999'") == 3
    assert counted(capsys.readouterr().out)["EventsIgnored"] == 3


def test_a_failing_service_returns_the_message_to_the_queue(environment: "Connection") -> None:
    environment.ledger._client.delete_table(TableName=TABLE)

    assert failed(record_interruption(sqs(WARNING), CONTEXT)) == ["message-1"]


@pytest.mark.usefixtures("environment")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))))
def test_whatever_the_body_a_message_is_acknowledged_or_returned(body: str) -> None:
    for handle in HANDLERS:
        assert failed(handle(sqs(WARNING | {"source": "x"}, body), CONTEXT)) in ([], ["message-2"])


def test_missing_settings_are_named_all_at_once() -> None:
    with pytest.raises(ValueError, match="SPOTKEEPER_LEDGER_TABLE, SPOTKEEPER_URI, SPOTKEEPER_DESCRIPTOR"):
        HandlerSettings.from_environ({"SPOTKEEPER_LEDGER_TABLE": ""})
    settings_ = HandlerSettings.from_environ(
        {"SPOTKEEPER_LEDGER_TABLE": "t", "SPOTKEEPER_URI": "s3://b", "SPOTKEEPER_DESCRIPTOR": "/p"}
    )
    assert (settings_.ledger_table, settings_.checkpoint_uri, settings_.descriptor_parameter) == ("t", "s3://b", "/p")
