"""`spotkeeper dead-letters` against the queues of a recovery stack in moto."""

import json
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from tests.control.mocked_aws import REGION

QUEUE = {"Type": "AWS::SQS::Queue"}
SOURCE = {
    "Type": "AWS::SQS::Queue",
    "Properties": {
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}, "maxReceiveCount": 5}
    },
}
TEMPLATE = json.dumps({"Resources": {"DeadLetters": QUEUE, "Events": SOURCE}})
EVENT = json.dumps({"detail-type": "Batch Job State Change", "detail": {"jobName": "train-1", "jobId": "1"}})


@pytest.fixture
def queues(environment: Connection) -> dict[str, str]:  # noqa: ARG001  they are made in it
    """Logical id -> URL."""
    client = boto3.client("cloudformation", region_name=REGION)
    client.create_stack(StackName="spotkeeper-dev-recovery", TemplateBody=TEMPLATE)
    resources = client.list_stack_resources(StackName="spotkeeper-dev-recovery")["StackResourceSummaries"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def types(*words: str) -> Any:
    result = CliRunner().invoke(app, ["dead-letters", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def dies(environment: Connection, queues: dict[str, str], body: str, **attributes: Any) -> str:
    sent = environment.sqs.send_message(QueueUrl=queues["DeadLetters"], MessageBody=body, MessageAttributes=attributes)
    return sent["MessageId"]


def bodies(environment: Connection, url: str) -> list[str]:
    received = environment.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return sorted(message["Body"] for message in received.get("Messages", []))


def test_none_are_listed_where_there_are_none(queues: dict[str, str]) -> None:  # noqa: ARG001  they are deployed
    assert types("list").stdout == "no dead letters\n"


def test_each_is_listed_with_what_it_is_about_and_why_and_stays(
    environment: Connection, queues: dict[str, str]
) -> None:
    refused = {"StringValue": "AccessDenied", "DataType": "String"}
    dies(environment, queues, EVENT)
    dies(environment, queues, "[1", ERROR_MESSAGE=refused)

    told = json.loads(types("list", "--json").stdout)

    assert sorted((one["event"], one["about"], one["reason"]) for one in told) == [
        ("Batch Job State Change", "train-1", "its function failed: see the function's log"),
        ("no event: '[1'", "", "not delivered: AccessDenied"),
    ]
    assert {one["queue"] for one in told} == {queues["Events"].rpartition("/")[2]}
    assert bodies(environment, queues["DeadLetters"]) == sorted([EVENT, "[1"])
    assert "train-1" in types("list").stdout


def test_all_of_more_than_a_batch_are_redriven_into_the_queue_that_they_died_in(
    environment: Connection, queues: dict[str, str]
) -> None:
    for number in range(12):
        dies(environment, queues, str(number))

    assert types("redrive").stderr.startswith("12 redriven")

    assert types("list").stdout == "no dead letters\n"
    told = environment.sqs.get_queue_attributes(
        QueueUrl=queues["Events"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert told["Attributes"]["ApproximateNumberOfMessages"] == "12"


def test_one_that_is_named_is_redriven_alone(environment: Connection, queues: dict[str, str]) -> None:
    message_id = dies(environment, queues, EVENT)
    dies(environment, queues, "another")

    types("redrive", "--message", message_id)

    assert bodies(environment, queues["Events"]) == [EVENT]
    assert bodies(environment, queues["DeadLetters"]) == ["another"]


def test_one_that_is_discarded_is_printed_and_gone(environment: Connection, queues: dict[str, str]) -> None:
    message_id = dies(environment, queues, EVENT)

    result = types("discard", message_id)

    assert result.stdout == f"{EVENT}\n"
    assert "is deleted" in result.stderr
    assert bodies(environment, queues["DeadLetters"]) == bodies(environment, queues["Events"]) == []


def test_nothing_is_moved_if_one_that_is_named_is_not_there(environment: Connection, queues: dict[str, str]) -> None:
    message_id = dies(environment, queues, EVENT)

    result = types("redrive", "--message", message_id, "--message", "unknown")

    assert result.exit_code == 1
    assert "no dead letter unknown" in result.stderr
    assert bodies(environment, queues["DeadLetters"]) == [EVENT]
