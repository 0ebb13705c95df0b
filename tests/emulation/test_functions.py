import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulation.aws import Aws, connect
from emulation.cloud import Cloud, Conditions
from emulation.events.functions import FunctionError, FunctionHost, host_functions
from emulation.events.pollers import failed_ids
from emulation.templates.deployment import Queue
from tests.emulation import sample_stack


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("functions")
    # 60 times real time: a visibility time-out of 60 s takes 1 s where a message failed.
    with Cloud(
        work_dir=folder / "work",
        assembly=sample_stack.assembly(folder / "sample"),
        conditions=Conditions(speed=60),
    ) as cloud:
        yield cloud


@pytest.fixture
def aws(cloud: Cloud) -> Aws:
    return connect(cloud.endpoint_url, cloud.region)


@pytest.fixture
def act(cloud: Cloud) -> FunctionHost:
    return host(cloud, "Act")


def host(cloud: Cloud, logical_id: str) -> FunctionHost:
    (found,) = (host for host in cloud.functions.values() if host.function.logical_id == logical_id)
    return found


def queue(cloud: Cloud, part: str) -> Queue:
    (found,) = (queue for queue in cloud.deployment.queues.values() if f"-{part}-" in queue.name)
    return found


def waiting(aws: Aws, queue: Queue) -> tuple[int, int]:
    """Return how many messages are there to be received, and how many are in flight."""
    attributes = aws.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"]), int(attributes["ApproximateNumberOfMessagesNotVisible"])


def drain(aws: Aws, queue: Queue) -> None:
    """Delete what other tests left in a queue."""
    while messages := aws.sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            aws.sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])


def eventually(read: Callable[[], Any], wanted: Any, seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while (last := read()) != wanted:
        assert time.monotonic() < give_up, f"after {seconds} s it is {last!r}, not {wanted!r}"
        time.sleep(0.02)  # between polls; the deadline is above


# One function


def test_a_function_keeps_its_process_from_one_invocation_to_the_next(act: FunctionHost) -> None:
    first = act.invoke({})
    second = act.invoke({})

    assert second == first + 1
    eventually(lambda: act.log_lines[-1], wanted=f"invoked {second}")  # output takes a pipe of its own


@pytest.mark.parametrize("module", ["handlers", "boto3", "botocore", "aws_lambda_powertools"])
def test_a_function_finds_its_archive_and_what_lambda_provides(act: FunctionHost, module: str) -> None:
    assert module in act.invoke({"import": module})


@pytest.mark.parametrize("module", ["spotkeeper", "lambdas", "emulation", "moto", "pytest", "torch"])
def test_a_function_does_not_find_what_its_archive_lacks(act: FunctionHost, module: str) -> None:
    with pytest.raises(FunctionError, match=f"No module named '{module}'"):
        act.invoke({"import": module})


def test_a_function_sees_the_variables_of_its_template_and_the_endpoint(cloud: Cloud, act: FunctionHost) -> None:
    consume = host(cloud, "Consume")

    assert act.invoke({"variable": "AWS_ENDPOINT_URL"}) == cloud.endpoint_url
    assert act.invoke({"variable": "AWS_LAMBDA_FUNCTION_NAME"}) == act.function.name
    assert act.invoke({"variable": "AWS_REGION"}) == "us-east-1"
    assert act.invoke({"variable": "VIRTUAL_ENV"}) is None
    assert act.invoke({"arn": True}) == act.function.arn
    assert consume.function.environment["BUCKET"] == cloud.deployment.one("AWS::S3::Bucket").physical_id


def test_a_function_knows_how_much_time_it_has_left(act: FunctionHost) -> None:
    act.invoke({})

    assert 0 < act.invoke({"remaining": True}) <= 2000


def test_an_exception_is_reported_as_aws_reports_it_and_the_process_stays(act: FunctionHost) -> None:
    before = act.invoke({})

    with pytest.raises(FunctionError, match="Act: LookupError: not there") as raised:
        act.invoke({"raise": "not there"})

    assert raised.value.error["errorType"] == "LookupError"
    assert "handlers.py" in "".join(raised.value.error["stackTrace"])
    assert act.invoke({}) == before + 2


def test_a_function_that_overruns_its_time_out_is_killed_and_the_next_invocation_starts_afresh(
    act: FunctionHost,
) -> None:
    act.invoke({})
    began = time.monotonic()

    with pytest.raises(FunctionError, match=r"Sandbox\.Timedout: .* Task timed out after 2\.00 seconds"):
        act.invoke({"sleep": 60})

    assert time.monotonic() - began < 10
    assert act.invoke({}) == 1


def test_a_function_whose_process_ends_fails_and_the_next_invocation_starts_afresh(act: FunctionHost) -> None:
    with pytest.raises(FunctionError, match=r"Runtime\.ExitError: the process ended with exit code 3"):
        act.invoke({"exit": 3})

    assert act.invoke({}) == 1


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("handlers.nothing", r"Runtime\.HandlerNotFound"),
        ("elsewhere.act", r"Runtime\.ImportModuleError: Unable to import module 'elsewhere'"),
    ],
)
def test_a_handler_that_cannot_be_loaded_says_why(tmp_path: Path, cloud: Cloud, handler: str, told: str) -> None:
    broken = replace(host(cloud, "Act").function, handler=handler)
    hosts = host_functions(
        [broken],
        s3=connect(cloud.endpoint_url, cloud.region).s3,
        environment={"AWS_REGION": "us-east-1"},
        work_dir=tmp_path,
        emulation_id=f"test-functions-{secrets.token_hex(8)}",
        clock=cloud.clock,
    )

    with pytest.raises(FunctionError, match=told):
        hosts[broken.name].invoke({})

    hosts[broken.name].close()


# From a queue


def test_handled_messages_are_deleted(cloud: Cloud, aws: Aws) -> None:
    events = queue(cloud, "Events")

    aws.sqs.send_message(QueueUrl=events.url, MessageBody=json.dumps({"name": "handled"}))

    eventually(lambda: 'received {"name": "handled"} 1' in host(cloud, "Consume").log_lines, wanted=True)
    eventually(lambda: waiting(aws, events), (0, 0))


def test_only_what_failed_is_delivered_again_and_then_goes_to_the_dead_letters(cloud: Cloud, aws: Aws) -> None:
    events, dead_letters = queue(cloud, "Events"), queue(cloud, "DeadLetters")
    drain(aws, dead_letters)
    bodies = [json.dumps({"name": "good"}), json.dumps({"name": "bad", "fail": True})]

    aws.sqs.send_message_batch(
        QueueUrl=events.url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
    )

    eventually(lambda: waiting(aws, dead_letters)[0], 1)
    log = host(cloud, "Consume").log_lines
    assert [line for line in log if '"good"' in line] == [f"received {bodies[0]} 1"]
    assert [line for line in log if '"bad"' in line] == [f"received {bodies[1]} 1", f"received {bodies[1]} 2"]
    (dead,) = aws.sqs.receive_message(QueueUrl=dead_letters.url)["Messages"]
    assert dead["Body"] == bodies[1]
    assert waiting(aws, events) == (0, 0)


def test_a_function_that_raises_gets_the_whole_batch_again(cloud: Cloud, aws: Aws) -> None:
    events, dead_letters = queue(cloud, "Events"), queue(cloud, "DeadLetters")
    drain(aws, dead_letters)

    aws.sqs.send_message(QueueUrl=events.url, MessageBody=json.dumps({"name": "raises", "raise": True}))

    eventually(lambda: waiting(aws, dead_letters)[0], 1)
    assert sum('"raises"' in line for line in host(cloud, "Consume").log_lines) == 2
    assert "Consume: LookupError: the whole batch" in cloud.function_errors


def test_an_event_on_the_bus_reaches_the_function(cloud: Cloud) -> None:
    cloud.router.publish(
        {
            "source": "aws.batch",
            "account": "123456789012",
            "detail-type": "Batch Job State Change",
            "detail": {"jobQueue": next(iter(cloud.deployment.job_queues)), "name": "from the bus"},
        }
    )

    eventually(lambda: any("from the bus" in line for line in host(cloud, "Consume").log_lines), wanted=True)


@pytest.mark.parametrize(
    ("response", "failed"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"wrong": "b"}]}, {"a", "b"}),
        ({"batchItemFailures": "b"}, {"a", "b"}),
        ("text", {"a", "b"}),
    ],
)
def test_a_malformed_report_fails_the_whole_batch(response: Any, failed: set[str]) -> None:
    assert failed_ids(response, ["a", "b"]) == failed
