import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from stacks.constructs.deploy_role import BOOTSTRAP_ROLES
from stacks.environments import DEV, PROD
from stacks.settings import Environment
from tests.stacks.policies import allowed_holders, applies, as_list, queues_of, statements
from tests.stacks.synthesized import Assembly

BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
SUBJECT = "repo:acme/spotkeeper:environment:prod"


def synthesized(settings: Environment, folder: Path) -> Assembly:
    app.assemble(settings, str(folder)).synth()
    return Assembly(folder, settings.name)


def roles(assembly: Assembly) -> dict[str, dict[str, Any]]:
    return {
        id_: assembly.resolved(stack, resource["Properties"])
        for stack in assembly.templates
        for id_, resource in assembly.resources(stack, "AWS::IAM::Role").items()
    }


def of_functions(holders: set[str]) -> set[str]:
    return {holder.partition("Role")[0] for holder in holders}


def test_only_the_dispatcher_and_the_sweeper_may_submit_to_an_on_demand_queue(any_environment: Assembly) -> None:
    on_demand = queues_of(any_environment, "on_demand")

    assert on_demand
    for queue in on_demand:
        assert of_functions(allowed_holders(any_environment, "batch:SubmitJob", queue)) == {"ObserveJob", "SweepRuns"}


def test_people_and_those_two_may_submit_to_a_spot_queue(any_environment: Assembly) -> None:
    for queue in queues_of(any_environment, "spot"):
        holders = allowed_holders(any_environment, "batch:SubmitJob", queue)
        assert {holder[:9] for holder in holders} == {"ObserveJo", "SweepRuns", "SubmitPol"}


@pytest.mark.parametrize(
    "statement",
    [
        {"Action": "batch:SubmitJob", "Resource": "*"},
        {"Action": ["s3:GetObject", "batch:*"], "Resource": ["arn:aws:batch:*:*:job-queue/*"]},
        {"Action": "*", "Resource": "*"},
        {"Action": "BATCH:Submit*", "Resource": "arn:aws:batch:us-east-1:123456789012:job-queue/OnDemand*"},
        {"NotAction": "s3:GetObject", "Resource": "*"},
        {"Action": "batch:SubmitJob", "NotResource": "arn:aws:s3:::bucket"},
    ],
)
def test_no_way_to_write_a_statement_hides_it_from_these_tests(statement: dict[str, Any]) -> None:
    queue = "arn:aws:batch:us-east-1:123456789012:job-queue/OnDemandQueue-1"

    assert applies(statement, "batch:SubmitJob", queue)
    assert not applies({"Action": "batch:SubmitJob", "Resource": "arn:aws:s3:::*"}, "batch:SubmitJob", queue)


def test_nobody_may_pass_roles_make_policies_or_start_builds(any_environment: Assembly) -> None:
    for action in ("iam:PassRole", "iam:PutRolePolicy", "iam:CreateRole", "codebuild:StartBuild"):
        assert allowed_holders(any_environment, action, "arn:aws:iam::123456789012:role/x") == set(), action


def test_every_function_has_a_role_of_its_own_that_only_lambda_takes_on(any_environment: Assembly) -> None:
    functions = [
        function["Properties"]["Role"]["Fn::GetAtt"][0]
        for stack in any_environment.templates
        for function in any_environment.resources(stack, "AWS::Lambda::Function").values()
    ]

    assert functions
    assert len(set(functions)) == len(functions)
    found = roles(any_environment)
    for role in functions:
        (trust,) = found[role]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert "Condition" not in trust, "no document says that Lambda would meet one: service_trust.py"


def test_a_role_trusts_one_service_and_no_role_of_jobs_or_functions_trusts_people(any_environment: Assembly) -> None:
    for id_, role in roles(any_environment).items():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert list(trust["Principal"]) == ["Service"], id_
        assert isinstance(trust["Principal"]["Service"], str), id_


def test_jobs_hosts_and_starts_have_three_roles_that_cannot_take_on_others(any_environment: Assembly) -> None:
    kinds = ("JobRole", "ExecutionRole", "HostRole")
    batch = any_environment.resources("batch", "AWS::IAM::Role")

    assert sorted(id_[: -len("014917C6")] for id_ in batch) == sorted(kinds)
    for holder, statement in statements(any_environment):
        if holder.startswith(kinds):
            assert not [action for action in as_list(statement["Action"]) if action.startswith(("sts:", "iam:"))]


@pytest.mark.parametrize("settings", [DEV, PROD], ids=lambda settings: settings.name)
def test_a_permissions_boundary_is_on_every_role_that_any_stack_makes(settings: Environment, tmp_path: Path) -> None:
    everything = replace(
        settings,
        permissions_boundary_arn=BOUNDARY,
        github_subject=SUBJECT,
        image_builder="codebuild",
        budget_alert_emails=("finance@example.org",),
    )

    found = roles(synthesized(everything, tmp_path))

    assert len(found) >= 10
    assert {id_ for id_, role in found.items() if role.get("PermissionsBoundary") != BOUNDARY} == set()


def test_without_the_setting_no_role_has_a_boundary(any_environment: Assembly) -> None:
    assert not [id_ for id_, role in roles(any_environment).items() if "PermissionsBoundary" in role]


def test_github_deploys_by_an_exact_subject_and_audience(tmp_path: Path) -> None:
    assembly = synthesized(replace(DEV, github_subject=SUBJECT), tmp_path)
    role = assembly.resolved("delivery", assembly.one("delivery", "AWS::IAM::Role"))

    assert role["MaxSessionDuration"] == 3600
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                    "token.actions.githubusercontent.com:sub": SUBJECT,
                }
            },
        }
    ]


def test_the_deploy_role_may_only_take_on_the_bootstrap_roles_of_its_account_and_region(tmp_path: Path) -> None:
    assembly = synthesized(replace(DEV, github_subject=SUBJECT), tmp_path)
    held = [statement for holder, statement in statements(assembly) if holder.startswith("DeployRole")]

    assert "ManagedPolicyArns" not in assembly.one("delivery", "AWS::IAM::Role")
    assert held == [
        {
            "Sid": "DeployByBootstrapRoles",
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Resource": [
                f"arn:aws:iam::123456789012:role/cdk-hnb659fds-{name}-role-123456789012-us-east-1"
                for name in ("deploy", "file-publishing", "lookup")
            ],
        }
    ]


def test_those_are_the_roles_of_the_bootstrap_that_a_deployment_takes_on(any_environment: Assembly) -> None:
    text = "".join(path.read_text() for path in any_environment.folder.glob("*manifest.json")) + "".join(
        path.read_text() for path in any_environment.folder.glob("*.assets.json")
    )

    # CloudFormation is passed the fourth, which it alone takes on.
    assert set(re.findall(r"cdk-hnb659fds-([a-z-]+)-role-", text)) == {*BOOTSTRAP_ROLES, "cfn-exec"}


def test_without_a_subject_nothing_in_github_can_deploy(any_environment: Assembly) -> None:
    assert "delivery" not in any_environment.templates
    for id_, role in roles(any_environment).items():
        assert "Federated" not in json.dumps(role["AssumeRolePolicyDocument"]), id_


def test_the_deploy_role_stands_in_a_stack_that_deploys_nothing_else(tmp_path: Path) -> None:
    assembly = synthesized(replace(DEV, github_subject=SUBJECT), tmp_path)

    kinds = {resource["Type"] for resource in assembly.templates["delivery"]["Resources"].values()}
    assert kinds == {"AWS::IAM::Role", "AWS::IAM::Policy"}
    assert list(assembly.templates["delivery"]["Outputs"]) == ["DeployRoleArn"]
