"""Defects that a template of ours could come to have, each planted in a copy: what nobody but the house rules sees."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

Template = dict[str, Any]


class Defect(NamedTuple):
    """A change of one stack's template for the worse."""

    stack: str
    rule: str
    """Name of the house rule that must find it."""
    plant: Callable[[Template], None]


def _each(template: Template, type_: str) -> Iterator[dict[str, Any]]:
    found = [item["Properties"] for item in template["Resources"].values() if item["Type"] == type_]
    assert found, f"nothing of type {type_} to break"
    return iter(found)


def _first(template: Template, type_: str) -> dict[str, Any]:
    return next(_each(template, type_))


def _unconditional_events(template: Template) -> None:
    for policy in _each(template, "AWS::SQS::QueuePolicy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement.get("Principal") == {"Service": "events.amazonaws.com"}:
                del statement["Condition"]


def _open_queue(template: Template) -> None:
    statements = _first(template, "AWS::SQS::QueuePolicy")["PolicyDocument"]["Statement"]
    statements.append({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sqs:SendMessage", "Resource": "*"})


def _add_role(template: Template, statement: dict[str, Any]) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
    template["Resources"]["Planted"] = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}}


def _unconditional_fis_role(template: Template) -> None:
    _add_role(template, {"Action": "sts:AssumeRole", "Principal": {"Service": "fis.amazonaws.com"}})


def _github_of_everybody(template: Template) -> None:
    provider = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    _add_role(
        template,
        {
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": provider},
            "Condition": {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}},
        },
    )


def _privileged(template: Template) -> None:
    _first(template, "AWS::Batch::JobDefinition")["ContainerProperties"]["Privileged"] = True


def _no_time_limit(template: Template) -> None:
    del _first(template, "AWS::Batch::JobDefinition")["Timeout"]


def _retries_everything(template: Template) -> None:
    strategy = _first(template, "AWS::Batch::JobDefinition")["RetryStrategy"]
    strategy["EvaluateOnExit"] = [rule for rule in strategy["EvaluateOnExit"] if rule["Action"] == "RETRY"]


def _secret_in_environment(template: Template) -> None:
    container = _first(template, "AWS::Batch::JobDefinition")["ContainerProperties"]
    container["Environment"].append({"Name": "WANDB_API_KEY", "Value": "planted"})


def _no_launch_template(template: Template) -> None:
    del _first(template, "AWS::Batch::ComputeEnvironment")["ComputeResources"]["LaunchTemplate"]


def _imdsv1(template: Template) -> None:
    _first(template, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] = "optional"


def game_day() -> dict[str, Any]:
    """A template of the shape that FIS takes."""
    return {
        "Type": "AWS::FIS::ExperimentTemplate",
        "Properties": {
            "Description": "Interrupt some of the spot hosts",
            "RoleArn": "arn:aws:iam::123456789012:role/drill",
            "Targets": {
                "spot": {
                    "ResourceType": "aws:ec2:spot-instance",
                    "SelectionMode": "COUNT(3)",
                    "ResourceTags": {"spotkeeper:environment": "dev", "chaos-ready": "true"},
                }
            },
            "Actions": {
                "interrupt": {
                    "ActionId": "aws:ec2:send-spot-instance-interruptions",
                    "Parameters": {"durationBeforeInterruption": "PT2M"},
                    "Targets": {"SpotInstances": "spot"},
                }
            },
            "StopConditions": [
                {"Source": "aws:cloudwatch:alarm", "Value": "arn:aws:cloudwatch:us-east-1:1:alarm:stop"}
            ],
        },
    }


def _unbounded_game_day(template: Template) -> None:
    template["Resources"]["Planted"] = game_day()
    template["Resources"]["Planted"]["Properties"]["StopConditions"] = [{"Source": "none"}]


def _whole_batches_fail(template: Template) -> None:
    del _first(template, "AWS::Lambda::EventSourceMapping")["FunctionResponseTypes"]


def _no_versions(template: Template) -> None:
    del _first(template, "AWS::S3::Bucket")["VersioningConfiguration"]


def _versions_for_ever(template: Template) -> None:
    rules = _first(template, "AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    for rule in rules:
        rule.pop("NoncurrentVersionExpiration", None)


def _no_account(template: Template) -> None:
    for rule in _each(template, "AWS::Events::Rule"):
        rule.get("EventPattern", {}).pop("account", None)


DEFECTS: Final = {
    "a queue that any account's rule may send to": Defect(
        "recovery", "only_known_senders_may_send", _unconditional_events
    ),
    "a queue that anybody may send to": Defect("recovery", "only_known_senders_may_send", _open_queue),
    "a role that FIS assumes for anybody": Defect(
        "recovery", "services_are_trusted_for_a_source", _unconditional_fis_role
    ),
    "a role for the workflows of every repository": Defect(
        "recovery", "federation_names_one_subject", _github_of_everybody
    ),
    "a privileged job": Defect("batch", "jobs_are_not_privileged", _privileged),
    "a job without a time limit": Defect("batch", "jobs_have_a_time_limit", _no_time_limit),
    "a job that is retried whatever ended it": Defect("batch", "retries_end_in_exit", _retries_everything),
    "a secret in the environment of a job": Defect("batch", "environments_hold_no_secrets", _secret_in_environment),
    "hosts without a launch template": Defect("batch", "hosts_have_a_launch_template", _no_launch_template),
    "hosts that answer IMDSv1": Defect("batch", "hosts_answer_imdsv2_only", _imdsv1),
    "a game day that no alarm stops": Defect("recovery", "game_days_are_bounded", _unbounded_game_day),
    "a batch that fails whole": Defect("recovery", "failed_messages_come_back_alone", _whole_batches_fail),
    "a bucket without versions": Defect("storage", "buckets_keep_versions", _no_versions),
    "a bucket that keeps every version for ever": Defect("storage", "old_versions_expire", _versions_for_ever),
}
"""By what is wrong. cdk-nag catches the other eight of the 22: see test_planted_defects."""
