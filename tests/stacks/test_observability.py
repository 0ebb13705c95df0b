import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from spotkeeper.contract import metrics
from spotkeeper.contract.alarms import ALARMS, runbook
from stacks.alarm_settings import AlarmSettings
from stacks.environments import DEV
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

STACK = "observability"
EMITTED = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}


def alarms(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """Properties of every alarm by construct id."""
    found = {
        **assembly.resources(STACK, "AWS::CloudWatch::Alarm"),
        **assembly.resources(STACK, "AWS::CloudWatch::CompositeAlarm"),
    }
    return {
        re.sub("[0-9A-F]{8}$", "", id_): assembly.resolved(STACK, resource["Properties"])
        for id_, resource in found.items()
    }


def read_metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that an alarm reads."""
    if "MetricName" in alarm:
        return [alarm]
    return [item["MetricStat"]["Metric"] for item in alarm.get("Metrics", ()) if "MetricStat" in item]


def observed(changes: AlarmSettings, folder: Path) -> Assembly:
    app.assemble(replace(DEV, alarms=changes), str(folder)).synth()
    return Assembly(folder, "dev")


def test_the_alarms_that_tell_somebody_are_those_of_the_contract(any_environment: Assembly) -> None:
    telling = {name for name, alarm in alarms(any_environment).items() if alarm.get("AlarmActions")}

    assert telling == set(ALARMS)
    assert len(ALARMS) == len(set(ALARMS)) == 11


def test_every_alarm_says_what_is_wrong_and_ends_with_its_runbook(any_environment: Assembly) -> None:
    for name, alarm in alarms(any_environment).items():
        description = alarm["AlarmDescription"]
        of = "PreemptionStorm" if name in ("HostsLost", "RunsStalled") else name
        assert description.endswith(f"Runbook: {runbook(of)}")
        assert 60 < len(description) <= 1024, "what CloudWatch takes"


def test_every_description_names_the_threshold_that_is_set(tmp_path: Path) -> None:
    settings = AlarmSettings(
        sweeper_silent_minutes=20,
        handlers_failing_minutes=35,
        sweep_repairs=7,
        checkpoint_stale_minutes=90,
        mirror_stopped_minutes=40,
        spot_dry_minutes=45,
        budget_left_percent=33,
        storm_hosts_lost=17,
    )
    described = alarms(observed(settings, tmp_path))
    thresholds = {
        "SweeperSilent": ("for 20 minutes", "EvaluationPeriods", 4),
        "HandlerErrors": ("of the last 35", "EvaluationPeriods", 7),
        "SweeperRepairing": ("at least 7 runs", "Threshold", 7),
        "CheckpointStale": ("for 5400 seconds", "Threshold", 5400),
        "MirrorStopped": ("is 2400 seconds late", "Threshold", 2400),
        "SpotCapacityDry": ("For 45 minutes", "EvaluationPeriods", 9),
        "BudgetHeadroom": ("At most 33 percent", "Threshold", 33),
        "HostsLost": ("at least 17 hosts", "Threshold", 17),
    }

    for name, (words, field, value) in thresholds.items():
        assert words in described[name]["AlarmDescription"]
        assert described[name][field] == value
    assert "at least 17 hosts" in described["PreemptionStorm"]["AlarmDescription"]


def test_alarm_and_its_end_both_go_to_the_one_topic(any_environment: Assembly) -> None:
    (topic,) = any_environment.resources(STACK, "AWS::SNS::Topic")
    arn = any_environment.resolved(STACK, {"Ref": topic})

    for name in ALARMS:
        alarm = alarms(any_environment)[name]
        assert alarm["AlarmActions"] == alarm["OKActions"] == [arn]


def test_how_missing_data_counts_is_chosen_for_every_alarm(dev: Assembly) -> None:
    chosen = {name: alarm.get("TreatMissingData") for name, alarm in alarms(dev).items() if "AlarmRule" not in alarm}

    assert chosen == {
        "DeadLetters": "notBreaching",
        "HandlerErrors": "notBreaching",
        "SweeperSilent": "breaching",
        "SweeperRepairing": "notBreaching",
        "CheckpointStale": "ignore",
        "MirrorStopped": "notBreaching",
        "SpotCapacityDry": "ignore",
        "BudgetHeadroom": "ignore",
        "NoProgress": "ignore",
        "NoticeNotHonoured": "notBreaching",
        "HostsLost": "notBreaching",
        "RunsStalled": "notBreaching",
    }


def test_alarms_of_states_read_metrics_that_every_sweep_sends(dev: Assembly) -> None:
    """`ignore` keeps an alarm for ever whose metric is sent only while something is wrong."""
    kept = [alarm for alarm in alarms(dev).values() if alarm.get("TreatMissingData") == "ignore"]

    assert len(kept) == 4
    for alarm in kept:
        assert {metric["MetricName"] for metric in read_metrics(alarm)} & metrics.STATES


def test_alarms_and_dashboard_read_only_what_is_emitted_with_the_environment_as_only_dimension(
    any_environment: Assembly,
) -> None:
    read = [metric for alarm in alarms(any_environment).values() for metric in read_metrics(alarm)]
    own = [metric for metric in read if metric["Namespace"] == metrics.NAMESPACE]
    shown = [shown for shown in dashboard_metrics(any_environment) if shown[0] == metrics.NAMESPACE]

    assert own
    assert shown
    for metric in own:
        assert metric["MetricName"] in EMITTED
        assert metric["Dimensions"] == [{"Name": "environment", "Value": any_environment.environment}]
    for _, name, *dimensions in (metric for metric in shown if "expression" not in metric[0]):
        assert name in EMITTED
        assert dimensions[:2] == ["environment", any_environment.environment]


def dashboard_metrics(assembly: Assembly) -> list[list[Any]]:
    (dashboard,) = assembly.resources(STACK, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(assembly.resolved(STACK, dashboard["Properties"]["DashboardBody"]))
    return [metric for widget in body["widgets"] for metric in widget["properties"].get("metrics", ())]


def test_the_dashboard_shows_every_alarm_and_stays_within_the_free_fifty_metrics(any_environment: Assembly) -> None:
    (dashboard,) = any_environment.resources(STACK, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(any_environment.resolved(STACK, dashboard["Properties"]["DashboardBody"]))
    (status,) = [widget for widget in body["widgets"] if widget["type"] == "alarm"]

    assert len(status["properties"]["alarms"]) == len(ALARMS)
    assert len(dashboard_metrics(any_environment)) <= 50


def test_dead_letters_and_errors_of_every_function_are_watched(any_environment: Assembly) -> None:
    recovery = any_environment.templates["recovery"]["Resources"]
    num_functions = sum(
        resource["Type"] == "AWS::Lambda::Function" and "Handler" in resource["Properties"]
        for resource in recovery.values()
    )
    num_dead_letters = sum(
        resource["Type"] == "AWS::SQS::Queue" and "RedrivePolicy" not in resource["Properties"]
        for resource in recovery.values()
    )
    found = alarms(any_environment)

    queues = {metric["Dimensions"][0]["Value"] for metric in read_metrics(found["DeadLetters"])}
    functions = {
        metric["Dimensions"][0]["Value"]
        for metric in read_metrics(found["HandlerErrors"])
        if metric["Namespace"] == "AWS/Lambda"
    }
    assert (len(queues), len(functions)) == (num_dead_letters, num_functions)
    assert len(read_metrics(found["HandlerErrors"])) <= 10, "what CloudWatch lets one alarm read"


def test_only_alarms_of_this_account_publish_and_only_over_tls(any_environment: Assembly) -> None:
    policy = any_environment.one(STACK, "AWS::SNS::TopicPolicy")["PolicyDocument"]
    allowed = [statement for statement in policy["Statement"] if statement["Effect"] == "Allow"]
    denied = [statement for statement in policy["Statement"] if statement["Effect"] == "Deny"]

    (publish,) = any_environment.resolved(STACK, allowed)
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert publish["Action"] == "sns:Publish"
    assert publish["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*"},
    }
    assert [statement["Condition"] for statement in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_nobody_is_subscribed_unless_the_settings_say_whom(dev: Assembly, tmp_path: Path) -> None:
    told = AlarmSettings(emails=("oncall@example.com",), urls=("https://events.example.com/v1/hook?key=a",))

    subscribed = observed(told, tmp_path).resources(STACK, "AWS::SNS::Subscription").values()

    assert dev.resources(STACK, "AWS::SNS::Subscription") == {}
    assert sorted((item["Properties"]["Protocol"], item["Properties"]["Endpoint"]) for item in subscribed) == [
        ("email", "oncall@example.com"),
        ("https", "https://events.example.com/v1/hook?key=a"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"emails": ("on call",)}, "emails must be e-mail addresses, got 'on call'"),
        ({"emails": ("a@example.com", "a@example.com")}, "emails must be at most 20 and each once"),
        ({"emails": tuple(f"a{n}@example.com" for n in range(21))}, "emails must be at most 20"),
        ({"urls": ("http://example.com/hook",)}, "urls must be URLs that begin with 'https://'.* got 'http://"),
        ({"urls": ("https://",)}, "urls must be URLs"),
        ({"sweeper_silent_minutes": 5}, "sweeper_silent_minutes must be a whole number from 10 to 60, got 5"),
        ({"sweeper_silent_minutes": 12}, "sweeper_silent_minutes must be a multiple of 5 minutes.* got 12: round it"),
        ({"handlers_failing_minutes": 121}, "handlers_failing_minutes must be a whole number from 10 to 120"),
        ({"sweep_repairs": 0}, "sweep_repairs must be a whole number from 1 to 10000, got 0"),
        ({"checkpoint_stale_minutes": True}, "checkpoint_stale_minutes must be a whole number .* got True"),
        ({"spot_dry_minutes": "15"}, "spot_dry_minutes must be a whole number from 5 to 720, got '15'"),
        ({"budget_left_percent": 100}, "budget_left_percent must be a whole number from 1 to 99, got 100"),
        ({"storm_hosts_lost": 1}, "storm_hosts_lost must be a whole number from 2 to 10000, got 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"AlarmSettings.{expected}"):
        AlarmSettings(**changes)
