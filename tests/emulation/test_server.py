import http.client
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from emulation.aws import Aws, connect, session
from emulation.batch.batch_api import ClientException
from emulation.server import Server


class Jobs:
    """Job operations that remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def handle(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((operation, request))
        if operation == "SubmitJob":
            return {"jobArn": "arn:aws:batch:us-east-1:123456789012:job/1", "jobId": "1", "jobName": request["jobName"]}
        raise ClientException(f"no {operation} today: {request}")


@pytest.fixture
def jobs(server: Server) -> Jobs:
    server.job_operations = Jobs()
    return server.job_operations


def test_job_operations_are_answered_by_us_and_the_rest_of_batch_by_moto(server: Server, jobs: Jobs, aws: Aws) -> None:
    submitted = aws.batch.submit_job(jobName="run-1", jobQueue="queue", jobDefinition="definition")
    environments = aws.batch.describe_compute_environments()

    assert submitted["jobId"] == "1"
    assert jobs.asked == [("SubmitJob", {"jobName": "run-1", "jobQueue": "queue", "jobDefinition": "definition"})]
    assert environments["computeEnvironments"] == []
    assert server.failures == ()


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("DescribeJobs", lambda batch: batch.describe_jobs(jobs=["1"])),
        ("ListJobs", lambda batch: batch.list_jobs(jobQueue="q")),
        ("CancelJob", lambda batch: batch.cancel_job(jobId="1", reason="r")),
        ("TerminateJob", lambda batch: batch.terminate_job(jobId="1", reason="r")),
        ("GetJobQueueSnapshot", lambda batch: batch.get_job_queue_snapshot(jobQueue="q")),
    ],
)
def test_a_refusal_reaches_boto3_as_the_client_exception_that_aws_would_send(
    jobs: Jobs, aws: Aws, operation: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(ClientError) as refusal:
        call(aws.batch)

    assert isinstance(refusal.value, aws.batch.exceptions.ClientException)
    assert refusal.value.response["Error"]["Code"] == "ClientException"
    assert refusal.value.response["Error"]["Message"].startswith(f"no {operation} today")
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert [asked for asked, _ in jobs.asked] == [operation]


def test_a_job_is_refused_until_something_can_run_it(aws: Aws) -> None:
    with pytest.raises(ClientError, match="still starting"):
        aws.batch.submit_job(jobName="run-1", jobQueue="queue", jobDefinition="definition")


def test_what_moto_raises_is_answered_with_500_and_kept(server: Server, aws: Aws) -> None:
    template = '{"Resources": {"Q": {"Type": "AWS::Batch::JobQueue", "Properties": {}}}}'

    with pytest.raises(Exception, match="InternalFailure"):
        aws.cloudformation.create_stack(StackName="broken", TemplateBody=template)

    (failure,) = server.failures
    assert failure.error == "KeyError: 'ComputeEnvironmentOrder'"
    assert failure.request == "POST cloudformation /"
    assert "create_from_cloudformation_json" in failure.traceback


def test_a_port_in_use_is_refused_with_the_way_out(server: Server) -> None:
    server.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ValueError, match=rf"port {port} is in use on 127\.0\.0\.1: give another with --port"):
            Server(port=port)


def test_an_impossible_port_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 \(any free one\) to 65535, got 70000"):
        Server(port=70000)


@pytest.mark.usefixtures("server")
def test_a_process_has_one_server_at_a_time_because_it_has_one_moto() -> None:
    with pytest.raises(RuntimeError, match="already runs an emulation"):
        Server()


def test_a_new_server_begins_empty_and_may_take_the_port_of_the_last(server: Server, aws: Aws) -> None:
    aws.sqs.create_queue(QueueName="left-behind")
    server.stop()

    again = Server(port=server.port)

    try:
        assert "QueueUrls" not in connect(again.endpoint_url, "us-east-1").sqs.list_queues()
    finally:
        again.stop()


def test_every_request_acts_in_the_account_of_the_deployment(server: Server, aws: Aws) -> None:
    server.account = "210987654321"

    url = aws.sqs.create_queue(QueueName="events")["QueueUrl"]

    attributes = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    assert attributes["QueueArn"] == "arn:aws:sqs:us-east-1:210987654321:events"


@pytest.fixture
def _threads_alternate_often() -> Iterator[None]:
    """Make races likely: moto's operations are seldom interrupted within Python's usual 5 ms."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_threads_alternate_often")
def test_of_many_conditional_writes_at_once_exactly_one_wins(aws: Aws) -> None:
    aws.dynamodb.create_table(
        TableName="ledger",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    aws.s3.create_bucket(Bucket="checkpoints")
    # Named before the threads start: botocore makes these classes at their first use, in each thread its own.
    refused = aws.dynamodb.exceptions.ConditionalCheckFailedException

    def claim(name: str) -> int:
        try:
            aws.dynamodb.put_item(
                TableName="ledger", Item={"pk": {"S": name}}, ConditionExpression="attribute_not_exists(pk)"
            )
        except refused:
            return 0
        return 1

    def commit(name: str) -> int:
        try:
            aws.s3.put_object(Bucket="checkpoints", Key=name, Body=b"manifest", IfNoneMatch="*")
        except ClientError as error:
            # Any other refusal would make the sums below too small.
            return 0 if error.response["Error"]["Code"] == "PreconditionFailed" else -8
        return 1

    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            assert sum(pool.map(claim, [f"run-{number}"] * 8)) == 1
        for number in range(5):
            assert sum(pool.map(commit, [f"commit/{number}"] * 8)) == 1


@pytest.mark.usefixtures("_threads_alternate_often")
def test_no_message_is_lost_when_some_are_sent_while_others_are_deleted(aws: Aws) -> None:
    url = aws.sqs.create_queue(QueueName="events")["QueueUrl"]
    received: list[str] = []
    wanted = 150

    def send() -> None:
        for number in range(wanted):
            aws.sqs.send_message(QueueUrl=url, MessageBody=str(number))

    sender = threading.Thread(target=send)
    sender.start()
    give_up = time.monotonic() + 30
    while len(received) < wanted and time.monotonic() < give_up:
        for message in aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            received.append(message["Body"])
            aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sender.join()

    assert sorted(received, key=int) == [str(number) for number in range(wanted)]


def _unfinished_upload(server: Server, key: str) -> http.client.HTTPConnection:
    """Begin an upload of 1,000 bytes and send ten."""
    signed = boto3.Session("emulation", "emulation", region_name="us-east-1").client(
        "s3", endpoint_url=server.endpoint_url
    )
    url = urlsplit(signed.generate_presigned_url("put_object", Params={"Bucket": "checkpoints", "Key": key}))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"ten bytes.")
    return connection


def test_an_upload_whose_client_dies_halfway_leaves_no_object(server: Server, aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="checkpoints")

    _unfinished_upload(server, "torn").close()
    aws.s3.put_object(Bucket="checkpoints", Key="whole", Body=b"x")

    give_up = time.monotonic() + 1
    while time.monotonic() < give_up:
        assert [item["Key"] for item in aws.s3.list_objects_v2(Bucket="checkpoints")["Contents"]] == ["whole"]
    assert server.failures == ()


def test_an_upload_that_stalls_holds_nobody_else_up(server: Server, aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="checkpoints")
    stalled = _unfinished_upload(server, "stalled")

    aws.s3.put_object(Bucket="checkpoints", Key="other", Body=b"x")

    assert aws.s3.get_object(Bucket="checkpoints", Key="other")["Body"].read() == b"x"
    stalled.send(b"x" * 990)
    assert stalled.getresponse().status == 200
    stalled.close()
    assert len(aws.s3.get_object(Bucket="checkpoints", Key="stalled")["Body"].read()) == 1000


def test_a_long_poll_does_not_keep_senders_out(server: Server, aws: Aws) -> None:
    url = aws.sqs.create_queue(QueueName="events")["QueueUrl"]
    waiting = session("us-east-1").client("sqs", endpoint_url=server.endpoint_url)
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(waiting.receive_message, QueueUrl=url, WaitTimeSeconds=20)

        aws.sqs.send_message(QueueUrl=url, MessageBody="hello")

        assert poll.result(timeout=10)["Messages"][0]["Body"] == "hello"


def test_an_upload_does_not_wait_a_second_for_permission_to_continue(aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="checkpoints")
    seconds = []
    for number in range(3):
        began = time.monotonic()
        aws.s3.put_object(Bucket="checkpoints", Key=str(number), Body=b"x" * 1_000_000)
        seconds.append(time.monotonic() - began)

    # botocore waits 1 s for `100 Continue` before it sends the body all the same.
    assert min(seconds) < 0.9
