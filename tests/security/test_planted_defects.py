"""The 22 defects that the gate was built for: 14 that the house rules find in templates, 8 that cdk-nag finds."""

import copy
import json
from pathlib import Path
from typing import Any, cast

import aws_cdk as cdk
import pytest
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import IConstruct

import app
from tests.security import house_rules
from tests.security.planted_defects import DEFECTS, Defect, game_day
from tests.stacks.synthesized import Assembly


def test_the_house_rules_find_nothing_in_the_shipped_stacks(any_environment: Assembly) -> None:
    assert [
        str(found) for template in any_environment.templates.values() for found in house_rules.judge(template)
    ] == []


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_planted_defect_is_found_by_its_rule_and_no_other(defect: Defect, dev: Assembly) -> None:
    broken = copy.deepcopy(dev.templates[defect.stack])

    defect.plant(broken)

    assert {found.rule for found in house_rules.judge(broken)} == {defect.rule}


def test_a_rule_target_without_dead_letters_and_a_pattern_for_every_account_are_found(dev: Assembly) -> None:
    broken = copy.deepcopy(dev.templates["recovery"])
    for resource in broken["Resources"].values():
        if resource["Type"] == "AWS::Events::Rule":
            resource["Properties"].get("EventPattern", {}).pop("account", None)
            del resource["Properties"]["Targets"][0]["DeadLetterConfig"]

    rules = {found.rule for found in house_rules.judge(broken)}

    assert rules == {"rules_have_dead_letters", "rules_match_the_own_account"}


def test_every_house_rule_has_a_defect_that_it_finds() -> None:
    tested_above = {"rules_have_dead_letters", "rules_match_the_own_account"}

    assert {rule.__name__ for rule in house_rules.RULES} == {d.rule for d in DEFECTS.values()} | tested_above


def changed(path: str, value: Any) -> dict[str, Any]:
    """The game day with one value changed; `path` is dotted."""
    template = game_day()
    *parents, last = path.split(".")
    place = template["Properties"]
    for name in parents:
        place = place[name]
    place[last] = value
    return {"Resources": {"GameDay": template}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Actions.interrupt.ActionId", "aws:ec2:interrupt-spot"),
        ("Actions.interrupt.Parameters", {"durationBeforeInterruption": "PT90M"}),
        ("Actions.interrupt.Parameters", {"duration": "PT2M"}),
        ("Actions.interrupt.Targets", {"Instances": "spot"}),
        ("Targets.spot.SelectionMode", "SOME(25)"),
        ("Targets.spot.ResourceType", "aws:ec2:instance"),
        ("Targets.spot.ResourceTags", {}),
        ("StopConditions", [{"Source": "aws:cloudwatch:alarms", "Value": "arn:aws:cloudwatch:us-east-1:1:alarm:stop"}]),
    ],
)
def test_a_game_day_that_fis_would_refuse_is_found_and_a_good_one_is_not(path: str, value: Any) -> None:
    assert house_rules.judge({"Resources": {"GameDay": game_day()}}) == []
    assert {found.rule for found in house_rules.judge(changed(path, value))} == {"game_days_are_bounded"}


def resource_of(built: cdk.App, path: str) -> IConstruct:
    node: IConstruct = built
    for name in path.split("/"):
        node = node.node.find_child(name)
    return node


def test_cdk_nag_refuses_to_synthesize_each_of_the_eight_other_defects(tmp_path: Path) -> None:
    built = app.build("dev", str(tmp_path))
    storage, batch, network, recovery = (
        f"spotkeeper-dev-{name}" for name in ("storage", "batch", "network", "recovery")
    )
    bucket = cast("s3.CfnBucket", resource_of(built, f"{storage}/Checkpoints/Resource"))
    bucket.public_access_block_configuration = s3.CfnBucket.PublicAccessBlockConfigurationProperty(
        block_public_acls=True, block_public_policy=False, ignore_public_acls=True, restrict_public_buckets=True
    )
    policy = cast("s3.CfnBucketPolicy", resource_of(built, f"{storage}/Checkpoints/Policy/Resource"))
    policy.policy_document = {"Version": "2012-10-17", "Statement": []}
    table = cast("dynamodb.CfnTable", resource_of(built, f"{storage}/Ledger/Resource"))
    table.point_in_time_recovery_specification = None
    queue = cast("sqs.CfnQueue", resource_of(built, f"{recovery}/ObserveJob/Events/Resource"))
    queue.redrive_policy = None
    rule = cast("events.CfnRule", resource_of(built, f"{recovery}/ObserveJob/Rule/Resource"))
    rule.targets = [events.CfnRule.TargetProperty(arn="arn:aws:sqs:us-east-1:123456789012:planted", id="Planted")]
    role = cast("iam.Role", resource_of(built, f"{batch}/JobRole"))
    role.add_to_policy(iam.PolicyStatement(actions=["batch:*", "iam:PassRole"], resources=["*"]))
    hosts = cast("ec2.CfnSecurityGroup", resource_of(built, f"{network}/Hosts/Resource"))
    hosts.security_group_ingress = [
        ec2.CfnSecurityGroup.IngressProperty(ip_protocol="tcp", from_port=22, to_port=22, cidr_ip="0.0.0.0/0")
    ]

    with pytest.raises(RuntimeError, match=r"[Vv]alidation"):
        built.synth()

    report = json.loads((tmp_path / "validation-report.json").read_text())
    found = {
        (violation["ruleName"], construct["constructPath"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }
    assert {
        ("AwsSolutions-S2", f"{storage}/Checkpoints/Resource"),
        ("AwsSolutions-S10", f"{storage}/Checkpoints/Resource"),
        ("AwsSolutions-DDB3", f"{storage}/Ledger/Resource"),
        ("AwsSolutions-SQS3", f"{recovery}/ObserveJob/Events/Resource"),
        ("Serverless-EventBusDLQ", f"{recovery}/ObserveJob/Rule/Resource"),
        ("AwsSolutions-IAM5[Action::batch:*]", f"{batch}/JobRole/DefaultPolicy/Resource"),
        ("AwsSolutions-IAM5[Resource::*]", f"{batch}/JobRole/DefaultPolicy/Resource"),
        ("AwsSolutions-EC23", f"{network}/Hosts/Resource"),
    } <= found, sorted(found)
