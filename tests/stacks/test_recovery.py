import copy
import json
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from moto.events.models import EventPattern

import app
from spotkeeper.control.aws.client_config import LONGEST_CALL_SECONDS
from stacks.environments import CPU, DEV, PROD
from stacks.recovery import POWERTOOLS_VERSION
from stacks.settings import Environment
from tests.stacks.synthesized import Assembly

if TYPE_CHECKING:
    from moto.events.utils import EventMessageType

EVENTS = Path(__file__).parents[1] / "recorded_events"
BY_EVENT = ("RecordInterruption", "ObserveJob", "RecordBlockedQueue")
FUNCTIONS = (*BY_EVENT, "SweepRuns")
TIMEOUT_SECONDS = {**dict.fromkeys(BY_EVENT, 60), "SweepRuns": 270}


def recorded(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def pattern(assembly: Assembly, function: str) -> dict[str, Any]:
    rule = assembly.one("recovery", "AWS::Events::Rule", f"{function}Rule")
    resolved: dict[str, Any] = assembly.resolved("recovery", rule["EventPattern"])
    return resolved


def selects(assembly: Assembly, function: str, event: dict[str, Any]) -> bool:
    return EventPattern.load(json.dumps(pattern(assembly, function))).matches_event(cast("EventMessageType", event))


@cache
def our_queue(assembly: Assembly) -> str:
    arn: str = pattern(assembly, "ObserveJob")["detail"]["jobQueue"][0]
    return arn


def in_our_queue(assembly: Assembly, name: str) -> dict[str, Any]:
    event = recorded(name)
    event["detail"]["jobQueue"] = our_queue(assembly)
    return event


def changed(event: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    event = copy.deepcopy(event)
    *parents, last = path.split("/")
    target = event
    for parent in parents:
        target = target[parent]
    assert last in target
    target[last] = value
    return event


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("RecordInterruption", "spot_interruption_warning"),
        ("RecordInterruption", "rebalance_recommendation"),
        ("ObserveJob", "job_runnable"),
        ("ObserveJob", "job_runnable_after_host_lost"),
        ("ObserveJob", "job_failed_host_lost"),
        ("RecordBlockedQueue", "job_queue_blocked"),
    ],
)
def test_a_recorded_event_reaches_its_function_and_no_other(dev: Assembly, function: str, event: str) -> None:
    sample = in_our_queue(dev, event) if event.startswith("job") else recorded(event)

    assert [name for name in BY_EVENT if selects(dev, name, sample)] == [function]


def test_an_event_that_nobody_asked_for_reaches_no_function(dev: Assembly) -> None:
    sample = recorded("instance_state_change")

    assert not [name for name in BY_EVENT if selects(dev, name, sample)]


@pytest.mark.parametrize(
    ("function", "event", "path", "value"),
    [
        ("RecordInterruption", "spot_interruption_warning", "account", "210987654321"),
        ("RecordInterruption", "spot_interruption_warning", "source", "my.app"),
        ("RecordInterruption", "spot_interruption_warning", "detail-type", "EC2 Instance Launch Successful"),
        ("RecordInterruption", "rebalance_recommendation", "account", "210987654321"),
        ("RecordInterruption", "rebalance_recommendation", "source", "my.app"),
        ("ObserveJob", "job_failed_host_lost", "account", "210987654321"),
        ("ObserveJob", "job_failed_host_lost", "source", "my.app"),
        ("ObserveJob", "job_failed_host_lost", "detail-type", "Batch Service Job State Change"),
        ("ObserveJob", "job_failed_host_lost", "detail/jobQueue", "arn:aws:batch:us-east-1:123456789012:job-queue/Q"),
        ("ObserveJob", "job_failed_host_lost", "detail/status", "SUBMITTED"),
        ("ObserveJob", "job_failed_host_lost", "detail/status", "PENDING"),
        ("ObserveJob", "job_failed_host_lost", "detail/status", "STARTING"),
        ("RecordBlockedQueue", "job_queue_blocked", "account", "210987654321"),
        ("RecordBlockedQueue", "job_queue_blocked", "source", "my.app"),
        ("RecordBlockedQueue", "job_queue_blocked", "detail-type", "Batch Service Job Queue Blocked"),
        (
            "RecordBlockedQueue",
            "job_queue_blocked",
            "detail/jobQueue",
            "arn:aws:batch:us-east-1:123456789012:job-queue/Q",
        ),
    ],
)
def test_an_event_that_differs_in_one_field_is_not_selected(
    dev: Assembly, function: str, event: str, path: str, value: str
) -> None:
    sample = in_our_queue(dev, event) if event.startswith("job") else recorded(event)

    assert selects(dev, function, sample)
    assert not selects(dev, function, changed(sample, path, value))


@pytest.mark.parametrize("status", ["RUNNABLE", "RUNNING", "SUCCEEDED", "FAILED"])
def test_jobs_are_observed_in_every_state_that_teaches_the_ledger(dev: Assembly, status: str) -> None:
    assert selects(dev, "ObserveJob", changed(in_our_queue(dev, "job_runnable"), "detail/status", status))


def test_the_rules_watch_all_queues_of_the_environment_within_the_size_of_a_pattern(prod: Assembly) -> None:
    queues = sorted(
        prod.resolved("batch", {"Ref": logical_id}) for logical_id in prod.resources("batch", "AWS::Batch::JobQueue")
    )

    assert len(queues) == 2 * len(PROD.profiles)
    for function in ("ObserveJob", "RecordBlockedQueue"):
        assert sorted(pattern(prod, function)["detail"]["jobQueue"]) == queues
        # EventBridge's quota: docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
        assert len(json.dumps(pattern(prod, function))) <= 2048


def test_more_queues_than_a_pattern_holds_are_refused_when_they_are_synthesized(tmp_path: Path) -> None:
    def with_profiles(count: int) -> Environment:
        profiles = (CPU, *(replace(CPU, name=f"cpu-{index}") for index in range(1, count)))
        # Without prices and SageMaker, with which the descriptor would be full first.
        return replace(DEV, profiles=profiles, on_demand_prices_usd={}, training=None)

    app.assemble(with_profiles(7), str(tmp_path / "7")).synth()
    fits = Assembly(tmp_path / "7", "dev")
    assert len(json.dumps(pattern(fits, "ObserveJob"))) <= 2048

    with pytest.raises(ValueError, match=r"over the 20 queues of environment 'dev' may take \d+ .* takes 2048: enable"):
        app.assemble(with_profiles(10), str(tmp_path / "10"))


def test_runs_are_swept_every_five_minutes_and_a_sweep_ends_before_the_next(dev: Assembly) -> None:
    rule = dev.one("recovery", "AWS::Events::Rule", "SweepRunsRule")

    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    assert rule["State"] == "ENABLED"
    assert "EventPattern" not in rule
    assert TIMEOUT_SECONDS["SweepRuns"] < 5 * 60


def test_a_sweep_that_failed_is_not_begun_again_beside_the_next(dev: Assembly) -> None:
    queue = dev.one("recovery", "AWS::SQS::Queue", "SweepRunsEvents")

    assert queue["MessageRetentionPeriod"] < queue["VisibilityTimeout"]
    assert queue["MessageRetentionPeriod"] <= 5 * 60


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_outlives_two_calls_that_aws_does_not_answer(dev: Assembly, function: str) -> None:
    assert dev.one("recovery", "AWS::Lambda::Function", f"{function}Function")["Timeout"] > 2 * LONGEST_CALL_SECONDS


def test_recovery_is_deployed_after_the_queues_that_it_watches(dev: Assembly) -> None:
    artifacts = json.loads((dev.folder / "manifest.json").read_text())["artifacts"]

    assert "spotkeeper-dev-batch" in artifacts["spotkeeper-dev-recovery"]["dependencies"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_cannot_be_delivered_or_handled_ends_in_one_dead_letter_queue(dev: Assembly, function: str) -> None:
    queue_id = next(id_ for id_ in dev.resources("recovery", "AWS::SQS::Queue") if id_.startswith(f"{function}Events"))
    dead_id = next(id_ for id_ in dev.resources("recovery", "AWS::SQS::Queue") if id_.startswith(f"{function}Dead"))
    queue = dev.one("recovery", "AWS::SQS::Queue", f"{function}Events")
    dead_letters = dev.one("recovery", "AWS::SQS::Queue", f"{function}Dead")
    (target,) = dev.one("recovery", "AWS::Events::Rule", f"{function}Rule")["Targets"]

    assert target["Arn"] == {"Fn::GetAtt": [queue_id, "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [dead_id, "Arn"]}}
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": [dead_id, "Arn"]},
        "maxReceiveCount": 5,
    }
    assert queue["VisibilityTimeout"] == 6 * TIMEOUT_SECONDS[function]
    # A sweep that failed is the next one's work.
    assert queue["MessageRetentionPeriod"] == (300 if function == "SweepRuns" else 4 * 24 * 3600)
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 300 if function == "SweepRuns" else 24 * 3600}
    assert dead_letters["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["SqsManagedSseEnabled"] is dead_letters["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_its_own_rules_may_send_to_a_queue_and_only_over_tls(dev: Assembly, function: str) -> None:
    for kind in ("Events", "DeadLetters"):
        policy = dev.one("recovery", "AWS::SQS::QueuePolicy", f"{function}{kind}Policy")
        refused, *granted = policy["PolicyDocument"]["Statement"]

        assert (refused["Effect"], refused["Action"], refused["Principal"]) == ("Deny", "sqs:*", {"AWS": "*"})
        assert refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        rules = [f"{function}Rule", *(["ObserveJobTrainingRule"] if function == "ObserveJob" else [])]
        for statement, expected in zip(granted, rules, strict=True):
            assert statement["Principal"] == {"Service": "events.amazonaws.com"}
            (rule,) = statement["Condition"]["ArnEquals"].values()
            assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rule}}
            assert rule["Fn::GetAtt"][0].startswith(expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_batch_of_messages_fails_message_by_message(dev: Assembly, function: str) -> None:
    mapping = dev.one("recovery", "AWS::Lambda::EventSourceMapping", f"{function}Function")

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2 if function == "SweepRuns" else 5}
    assert mapping["BatchSize"] == (1 if function == "SweepRuns" else 10)
    assert mapping["EventSourceArn"]["Fn::GetAtt"][0].startswith(f"{function}Events")


@pytest.mark.parametrize(
    ("function", "handler"),
    [
        ("RecordInterruption", "record_interruption"),
        ("ObserveJob", "observe_job"),
        ("RecordBlockedQueue", "record_blocked_queue"),
        ("SweepRuns", "sweep_runs"),
    ],
)
def test_a_function_runs_its_handler_with_the_ledger_and_powertools(dev: Assembly, function: str, handler: str) -> None:
    properties = dict(dev.one("recovery", "AWS::Lambda::Function", f"{function}Function"))
    parameters = dev.templates["recovery"]["Parameters"]
    (layer,) = properties["Layers"]
    visibility = dev.one("recovery", "AWS::SQS::Queue", f"{function}Events")["VisibilityTimeout"]

    assert properties["Handler"] == f"lambdas.{handler}.handler.handle"
    assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
    assert properties["Timeout"] == TIMEOUT_SECONDS[function]
    assert visibility >= 6 * properties["Timeout"]
    assert dev.resolved("recovery", properties["Environment"]["Variables"]) == {
        "SPOTKEEPER_LEDGER_TABLE": "spotkeeper-dev-storage-LedgerB7379752-0123456789ab",
        "SPOTKEEPER_DESCRIPTOR": "/spotkeeper/dev/descriptor",
        "SPOTKEEPER_URI": "s3://spotkeeper-dev-storage-Checkpoints620E2F20-0123456789ab",
        "POWERTOOLS_SERVICE_NAME": handler,
        "POWERTOOLS_METRICS_NAMESPACE": "Spotkeeper",
    }
    assert parameters[layer["Ref"]] == {
        "Type": "AWS::SSM::Parameter::Value<String>",
        "Default": "/aws/service/powertools/python/arm64/python3.13/3.37.0",
    }
    assert dev.one("recovery", "AWS::Logs::LogGroup", f"{function}Logs")["RetentionInDays"] == 14
    assert properties["Role"]["Fn::GetAtt"][0].startswith(f"{function}Role")


def test_the_layer_is_the_version_that_the_handlers_are_tested_with() -> None:
    assert version("aws-lambda-powertools") == POWERTOOLS_VERSION
