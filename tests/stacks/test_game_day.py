import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from stacks.environments import DEV, PROD
from stacks.game_day import STOP_ALARMS
from stacks.game_day_settings import GameDay
from tests.security.__main__ import findings
from tests.security.finding import Finding
from tests.security.house_rules import judge
from tests.stacks.policies import applies
from tests.stacks.synthesized import Assembly

TAGS = {"spotkeeper:environment": "prod", "spotkeeper:market": "spot", "spotkeeper:drill": "allowed"}
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("drilled") / "prod"
    app.assemble(replace(PROD, game_day=GameDay(profiles=("cpu",), num_hosts=3)), str(folder)).synth()
    return Assembly(folder, "prod")


def experiments(assembly: Assembly) -> dict[str, dict[str, Any]]:
    found = assembly.resources("game-day", "AWS::FIS::ExperimentTemplate")
    return {id_: assembly.resolved("game-day", resource["Properties"]) for id_, resource in found.items()}


def test_no_environment_has_a_game_day_unless_its_settings_say_so(any_environment: Assembly) -> None:
    assert "game-day" not in any_environment.templates
    for stack in any_environment.templates:
        assert "spotkeeper:drill" not in str(any_environment.templates[stack])


def test_an_experiment_has_the_shape_that_fis_takes(drilled: Assembly) -> None:
    found = experiments(drilled)

    assert sorted(found) == ["NoticeDrill", "RebalanceDrill"]
    before = {id_: template["Actions"]["interrupt"]["Parameters"] for id_, template in found.items()}
    assert before == {
        "NoticeDrill": {"durationBeforeInterruption": "PT2M"},
        "RebalanceDrill": {"durationBeforeInterruption": "PT5M"},
    }
    for template in found.values():
        assert template["Targets"] == {
            "spot": {
                "ResourceType": "aws:ec2:spot-instance",
                "SelectionMode": "COUNT(3)",
                "ResourceTags": TAGS,
                "Filters": [{"Path": "State.Name", "Values": ["running"]}],
            }
        }
        assert list(template["Actions"]) == ["interrupt"]
        assert template["Actions"]["interrupt"]["ActionId"] == "aws:ec2:send-spot-instance-interruptions"
        assert template["Actions"]["interrupt"]["Targets"] == {"SpotInstances": "spot"}
        assert template["ExperimentOptions"] == {
            "AccountTargeting": "single-account",
            "EmptyTargetResolutionMode": "fail",
        }


def test_alarms_of_the_environment_stop_an_experiment(drilled: Assembly) -> None:
    for template in experiments(drilled).values():
        stops = template["StopConditions"]
        assert {stop["Source"] for stop in stops} == {"aws:cloudwatch:alarm"}
        assert len(stops) == len(STOP_ALARMS) <= 5
        for name, stop in zip(STOP_ALARMS, stops, strict=True):
            assert name in stop["Value"]


def test_only_spot_hosts_of_the_profiles_that_opted_in_carry_the_tag(drilled: Assembly) -> None:
    tagged = {
        (properties["Tags"]["spotkeeper:profile"], properties["Tags"]["spotkeeper:market"])
        for resource in drilled.resources("batch", "AWS::Batch::ComputeEnvironment").values()
        if "spotkeeper:drill" in (properties := resource["Properties"]["ComputeResources"])["Tags"]
    }

    assert tagged == {("cpu", "spot")}


def test_the_role_of_fis_interrupts_tagged_instances_and_does_nothing_else(drilled: Assembly) -> None:
    policy = drilled.resolved("game-day", drilled.one("game-day", "AWS::IAM::Policy"))
    read, interrupt = policy["PolicyDocument"]["Statement"]
    role = drilled.resolved("game-day", drilled.one("game-day", "AWS::IAM::Role"))
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]

    assert read["Action"] == "ec2:DescribeInstances"
    assert interrupt["Action"] == "ec2:SendSpotInstanceInterruptions"
    assert applies(interrupt, "ec2:SendSpotInstanceInterruptions", INSTANCE)
    assert interrupt["Condition"] == {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in TAGS.items()}}
    assert trust["Principal"] == {"Service": "fis.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:fis:us-east-1:123456789012:experiment/*"},
    }


def test_who_leads_a_drill_may_start_these_templates_only_and_no_role_has_that_policy(drilled: Assembly) -> None:
    policy = drilled.resolved("game-day", drilled.one("game-day", "AWS::IAM::ManagedPolicy"))
    start = policy["PolicyDocument"]["Statement"][0]

    assert start["Action"] == "fis:StartExperiment"
    assert len([arn for arn in start["Resource"] if ":experiment-template/" in arn]) == 2
    assert not [arn for arn in start["Resource"] if arn.endswith("experiment-template/*")]
    assert not {"Roles", "Users", "Groups"} & set(policy)


def test_the_security_gate_and_cfn_lint_find_nothing_in_a_drilled_environment(drilled: Assembly) -> None:
    assert list(findings(drilled.folder)) == []
    linted = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *drilled.folder.glob("*game-day.template.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_a_drill_stays_within_the_default_quota_of_fis_unless_somebody_sets_more() -> None:
    assert 1 <= GameDay(profiles=("cpu",)).num_hosts <= 5


@pytest.mark.parametrize("action", ["aws:ec2:terminate-instances", "aws:ec2:stop-instances"])
def test_the_gate_refuses_any_other_action(drilled: Assembly, action: str) -> None:
    template = drilled.templates["game-day"]
    changed = {
        id_: {**resource, "Properties": {**resource["Properties"], "Actions": {"do": {"ActionId": action}}}}
        for id_, resource in template["Resources"].items()
        if resource["Type"] == "AWS::FIS::ExperimentTemplate"
    }

    assert {type(found) for found in judge({"Resources": changed})} == {Finding}


@pytest.mark.parametrize(
    ("profiles", "num_hosts", "words"),
    [
        (("cpu", "gpu-1tb"), 1, "GameDay.profiles must name at least one"),
        ((), 1, "GameDay.profiles must name at least one"),
        (("cpu",), 0, "GameDay.num_hosts must be a whole number from 1 to 100, got 0"),
        (("cpu",), True, "GameDay.num_hosts must be a whole number from 1 to 100, got True"),
    ],
)
def test_what_makes_no_sense_is_refused(profiles: tuple[str, ...], num_hosts: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(DEV, game_day=GameDay(profiles=profiles, num_hosts=num_hosts)).check()
