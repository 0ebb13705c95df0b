"""What the doctor finds in an environment of the real templates, with one fault planted in each test."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from emulation.aws import Aws
from spotkeeper.contract.log_lines import LogEvent, format_line
from spotkeeper.control import kill_switch
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.doctor.checkup import Verdict, examine
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding
from tests.ops.doctor.conftest import ISOLATED


def findings(connection: Connection) -> dict[str, tuple[Finding, ...]]:
    """Findings by check, of the checks that found something."""
    results = examine(Examined(connection=connection, now=datetime.now(UTC)))
    return {
        result.check: result.findings for result in results if result.verdict is not Verdict.WELL and result.findings
    }


def the_only(connection: Connection, check: str) -> Finding:
    found = findings(connection)
    assert list(found) == [check]
    (finding,) = found[check]
    return finding


def resource(aws: Aws, stack: str, type_: str, prefix: str) -> str:
    pages = aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=f"spotkeeper-dev-{stack}")
    (found,) = [
        summary["PhysicalResourceId"]
        for page in pages
        for summary in page["StackResourceSummaries"]
        if summary["ResourceType"] == type_ and summary["LogicalResourceId"].startswith(prefix)
    ]
    return found


@pytest.mark.usefixtures("shell")
def test_a_fresh_environment_is_well_and_what_the_emulation_lacks_is_named() -> None:
    result = CliRunner().invoke(app, ["--local", "doctor", "--json"])

    told = {check["check"]: check["verdict"] for check in json.loads(result.stdout)}
    assert result.exit_code == 0, result.output
    assert {check for check, verdict in told.items() if verdict == "well"} == {
        "queues", "host network", "metadata service", "stop time-out", "dead letters", "kill switch", "rules",
    }  # fmt: skip
    assert {check for check, verdict in told.items() if verdict == "not checked here"} == {
        "quotas", "service-linked roles", "trainer images", "cost-allocation tags", "alarms", "alarm subscribers",
        "spending stop", "event sources", "sweeper heartbeat",
    }  # fmt: skip


@pytest.mark.usefixtures("shell")
def test_people_are_told_what_is_wrong_what_it_should_be_and_the_fix_and_the_exit_code_is_1(local: Connection) -> None:
    kill_switch.turn(is_off=True, reason="a bill that nobody understands", ports=local.ports)

    result = CliRunner().invoke(app, ["--local", "doctor"])

    assert result.exit_code == 1
    assert "not checked here  quotas: the emulation has no quotas" in result.stdout
    assert "finding           kill switch" in result.stdout
    assert "is      switched off: a bill that nobody understands" in result.stdout
    assert "fix     `spotkeeper fallback on`" in result.stdout


@pytest.mark.parametrize("network", [ISOLATED])
def test_an_isolated_environment_is_well_by_its_endpoints(local: Connection) -> None:
    assert findings(local) == {}


@pytest.mark.parametrize("network", [ISOLATED])
def test_a_missing_interface_endpoint_is_found_where_there_is_no_other_way_out(local: Connection, aws: Aws) -> None:
    (endpoint,) = [
        found["VpcEndpointId"]
        for found in aws.ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if found["ServiceName"].endswith(".ecs-agent")
    ]
    aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])

    finding = the_only(local, "host network")

    assert finding.subject.endswith("interface endpoint of ecs-agent")
    assert "--service-name com.amazonaws.us-east-1.ecs-agent" in finding.fix


def test_a_public_subnet_that_lost_its_route_cannot_reach_any_service(local: Connection, aws: Aws) -> None:
    table = resource(aws, "network", "AWS::EC2::RouteTable", "VpcJobsSubnet1")
    aws.ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")

    found = findings(local)

    assert {finding.subject.rpartition(" ")[2] for finding in found["host network"]} == {
        "ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs",
    }  # fmt: skip


def test_a_missing_gateway_endpoint_is_found_for_each_subnet(local: Connection, aws: Aws) -> None:
    aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[resource(aws, "network", "AWS::EC2::VPCEndpoint", "VpcS3")])

    found = findings(local)

    assert [finding.subject.rpartition(", ")[2] for finding in found["host network"]] == ["gateway endpoint of s3"] * 2


def test_a_disabled_queue_is_found_with_the_command_that_enables_it(local: Connection, aws: Aws) -> None:
    queue = local.descriptor.profiles["cpu"].spot_queue
    aws.batch.update_job_queue(jobQueue=queue, state="DISABLED")

    finding = the_only(local, "queues")

    assert (finding.subject, finding.value) == (f"queue {queue.rpartition('/')[2]}", "state DISABLED")
    assert finding.fix.startswith("`aws batch update-job-queue --job-queue ")


def test_a_deleted_queue_is_found(local: Connection, aws: Aws) -> None:
    queue = local.descriptor.profiles["cpu"].on_demand_queue
    aws.batch.update_job_queue(jobQueue=queue, state="DISABLED")
    aws.batch.delete_job_queue(jobQueue=queue)

    finding = the_only(local, "queues")

    assert (finding.subject, finding.value) == (f"queue of profile cpu, on-demand: {queue}", "missing")


def test_dead_letters_are_counted(local: Connection, aws: Aws) -> None:
    url = resource(aws, "recovery", "AWS::SQS::Queue", "ObserveJobDeadLetters")
    aws.sqs.send_message(QueueUrl=url, MessageBody="{}")

    finding = the_only(local, "dead letters")

    assert finding.value == "1 messages"
    assert "start-message-move-task --source-arn arn:aws:sqs:" in finding.fix


def test_a_disabled_schedule_of_the_sweeper_is_found(local: Connection, aws: Aws) -> None:
    rule = resource(aws, "recovery", "AWS::Events::Rule", "SweepRuns")
    aws.events.disable_rule(Name=rule)

    assert the_only(local, "rules").subject == f"rule {rule}"


def test_a_stack_that_was_never_deployed_is_a_finding_of_every_check_that_reads_it(local: Connection, aws: Aws) -> None:
    aws.cloudformation.delete_stack(StackName="spotkeeper-dev-recovery")

    found = findings(local)

    assert set(found) == {"dead letters", "rules"}
    assert {finding.fix for (finding,) in found.values()} == {"`make deploy ENV=dev`"}


def write_log(connection: Connection, *lines: str) -> None:
    group = connection.descriptor.job_log_group
    connection.logs.create_log_stream(logGroupName=group, logStreamName="job")
    now = int(datetime.now(UTC).timestamp() * 1000)
    events: list[Any] = [{"timestamp": now + n, "message": line} for n, line in enumerate(lines)]
    connection.logs.put_log_events(logGroupName=group, logStreamName="job", logEvents=events)


def test_a_run_whose_saves_outlast_the_stop_timeout_is_found_by_its_longest_save(local: Connection) -> None:
    def save(run: str, seconds: float) -> str:
        return format_line(LogEvent.COMMITTED, run=run, epoch=1, step=5, cause="periodic", seconds=seconds, bytes=9)

    write_log(local, save("big-1", 115.5), "committed to the cause", save("big-1", 30.0), save("small-1", 2.0))

    finding = the_only(local, "stop time-out")

    assert finding.subject.startswith("longest save of run big-1 ")
    assert (finding.value, finding.expected.partition(",")[0]) == ("115.5 s", "below 110 s")


@pytest.mark.parametrize(
    ("change", "check", "subject", "value"),
    [
        (lambda text: text.replace('"HttpTokens": "required"', '"HttpTokens": "optional"'),
         "metadata service", "MetadataOptions.HttpTokens", "optional"),
        (lambda text: text.replace('"HttpPutResponseHopLimit": 2', '"HttpPutResponseHopLimit": 1'),
         "metadata service", "MetadataOptions.HttpPutResponseHopLimit", "1"),
        (lambda text: text.replace("STOP_TIMEOUT=110s", "STOP_TIMEOUT=2m30s"),
         "stop time-out", "ECS_CONTAINER_STOP_TIMEOUT", "150 s"),
    ],
)  # fmt: skip
def test_a_launch_template_that_was_changed_is_found(local: Connection, check: str, subject: str, value: str) -> None:
    finding = the_only(local, check)

    assert finding.subject.endswith(subject)
    assert finding.value == value
