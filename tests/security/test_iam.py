from typing import Any

import pytest

from tests.security import iam
from tests.security.statements import allowing, as_list
from tests.stacks.synthesized import Assembly

TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/ledger"


def allow(action: str, resource: str, **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def named(assembly: Assembly) -> iam.DeployedNames:
    return iam.DeployedNames(assembly.folder, assembly.environment)


def test_no_policy_of_the_shipped_stacks_writes_to_everything_or_contradicts_iam(any_environment: Assembly) -> None:
    judged = list(iam.policies(named(any_environment)))

    assert len(judged) >= 8
    assert [str(found) for found in iam.judge(named(any_environment))] == []


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("batch:SubmitJob", "*"),
        ("iam:PassRole", "*"),
        ("s3:DeleteObject", "arn:aws:s3:::*"),
        ("dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:123456789012:*"),
        ("ec2:TerminateInstances", "*"),
        ("batch:*", "arn:aws:batch:us-east-1:123456789012:job-queue/spot"),
        ("nosuchservice:Write", "*"),
    ],
)
def test_a_write_on_everything_is_found(action: str, resource: str) -> None:
    found = list(iam.writes_name_their_resource("Planted", allow(action, resource)))

    assert [finding.where for finding in found] == ["Planted"]
    assert action in found[0].problem


@pytest.mark.parametrize(
    ("action", "resource"),
    [("batch:DescribeJobs", "*"), ("ecr:GetAuthorizationToken", "*"), ("dynamodb:PutItem", TABLE)],
)
def test_reading_everything_and_writing_one_thing_are_not_found(action: str, resource: str) -> None:
    assert list(iam.writes_name_their_resource("Planted", allow(action, resource))) == []


@pytest.mark.parametrize(
    ("document", "issue"),
    [
        (allow("s3:GetObject", TABLE), "RESOURCE_MISMATCH"),
        (
            allow("s3:GetObject", "arn:aws:s3:::data/*", Condition={"StringEquals": {"s3:nope": "x"}}),
            "UNKNOWN_CONDITION_FOR_ACTION",
        ),
    ],
)
def test_parliament_finds_what_can_never_apply(document: dict[str, Any], issue: str) -> None:
    assert [found.rule for found in iam.parliament_agrees("Planted", document)] == [f"parliament {issue}"]


def test_every_exception_is_still_needed(dev: Assembly) -> None:
    everything = {
        action
        for _, document in iam.policies(named(dev))
        for statement in allowing(document)
        if "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }

    assert set(iam.WRITES_WITHOUT_RESOURCE) <= everything
