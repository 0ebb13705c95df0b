"""The calls of a program as IAM sees them: recorded from botocore, and named as a deployed environment names things.

Which actions and resources a call is checked for: the Service Authorization Reference,
docs.aws.amazon.com/service-authorization/latest/reference/. A call that is not described here is refused.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import boto3

from spotkeeper.contract import training
from tests.control.ledger_table import TABLE
from tests.ops.deployed_environment import BUCKET, LOG_GROUP
from tests.stacks.iam_evaluation import Request
from tests.stacks.policies import queues_of
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

Call = tuple[str, str, Mapping[str, Any]]
"""Service, operation, parameters."""


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Note every call of the clients that are made within, by whatever means they are made."""
    calls: list[Call] = []

    def note(params: Mapping[str, Any], model: Any, **_: object) -> None:
        calls.append((model.service_model.service_name, model.name, dict(params)))

    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("provide-client-params.*.*", note)
    try:
        yield calls
    finally:
        boto3.setup_default_session()


@dataclass(frozen=True, slots=True)
class DeployedNames:
    """What the things of the environment in moto are called where it is deployed."""

    assembly: Assembly

    def ledger(self) -> str:
        return self._attribute("storage", "AWS::DynamoDB::Table")

    def bucket(self) -> str:
        return self._attribute("storage", "AWS::S3::Bucket")

    def queue(self, arn: str) -> str:
        market = "on_demand" if arn.endswith("/on-demand") else "spot"
        assert arn.endswith(("/spot", "/on-demand")), arn
        return queues_of(self.assembly, market)[0]

    def roles(self) -> Iterator[str]:
        """ARNs of the roles that a job definition names."""
        definition = next(iter(self.assembly.resources("batch", "AWS::Batch::JobDefinition").values()))
        container = definition["Properties"]["ContainerProperties"]
        for name in ("JobRoleArn", "ExecutionRoleArn"):
            yield self.assembly.resolved("batch", container[name])

    def log_stream(self, name: str) -> str:
        (id_,) = self.assembly.resources("batch", "AWS::Logs::LogGroup")
        return f"{self.assembly.attribute('batch', id_, 'Arn').removesuffix('*')}log-stream:{name}"

    def _attribute(self, stack: str, type_: str) -> str:
        (id_,) = self.assembly.resources(stack, type_)
        return self.assembly.attribute(stack, id_, "Arn")


_SAME_ACTION: Final = {"GetItem", "PutItem", "UpdateItem"}
_IN_TRANSACTION: Final = {"Put": "PutItem", "Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem"}
_S3_OBJECT: Final = {"HeadObject": "GetObject", "GetObject": "GetObject", "PutObject": "PutObject"}
_S3_LISTING: Final = {"ListObjectsV2": "ListBucket", "ListObjectVersions": "ListBucketVersions"}
_BATCH_LOOKS: Final = {"DescribeJobs", "DescribeJobDefinitions", "ListJobs"}
_BATCH_STOPS: Final = {"TerminateJob", "CancelJob"}
_TLS: Final = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}


def requests_of(call: Call, deployed: DeployedNames) -> Iterator[Request]:
    """What IAM is asked for one call."""
    service, operation, params = call
    if service == "ssm" and operation == "GetParameter":
        name = params["Name"].replace("/dev/", f"/{deployed.assembly.environment}/")
        yield Request(action="ssm:GetParameter", resource=f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}")
    elif service == "dynamodb":
        yield from _of_dynamodb(operation, params, deployed.ledger())
    elif service == "s3":
        yield from _of_s3(operation, params, deployed.bucket())
    elif service == "batch":
        yield from _of_batch(operation, params, deployed)
    elif service == "logs" and params["logGroupName"] == training.LOG_GROUP:
        yield _of_training_logs(operation, params)
    elif service == "logs" and operation == "GetLogEvents":
        assert params["logGroupName"] == LOG_GROUP
        yield Request(action="logs:GetLogEvents", resource=deployed.log_stream(params["logStreamName"]))
    elif service == "logs" and operation == "FilterLogEvents":
        assert params["logGroupName"] == LOG_GROUP
        yield Request(action="logs:FilterLogEvents", resource=deployed.log_stream("").removesuffix("log-stream:") + "*")
    elif (service, operation) == ("ec2", "DescribeSpotPriceHistory"):
        yield Request(action="ec2:DescribeSpotPriceHistory", resource="*")
    else:
        raise NotImplementedError(f"{service} {operation}")


def _of_training_logs(operation: str, params: Mapping[str, Any]) -> Request:
    """Streams are of a job that is named after the environment, so these are of dev."""
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{training.LOG_GROUP}"
    resources = {
        "DescribeLogStreams": f"{group}:*",
        "FilterLogEvents": f"{group}:*",
        "GetLogEvents": f"{group}:log-stream:{params.get('logStreamName')}",
    }
    return Request(action=f"logs:{operation}", resource=resources[operation])


def _of_dynamodb(operation: str, params: Mapping[str, Any], table: str) -> Iterator[Request]:
    match operation:
        case "TransactWriteItems":
            for item in params["TransactItems"]:
                ((kind, told),) = item.items()
                assert told["TableName"] == TABLE
                yield Request(action=f"dynamodb:{_IN_TRANSACTION[kind]}", resource=table)
        case "BatchGetItem":
            assert set(params["RequestItems"]) == {TABLE}
            yield Request(action="dynamodb:BatchGetItem", resource=table)
        case "Query":
            index = params.get("IndexName")
            yield Request(action="dynamodb:Query", resource=f"{table}/index/{index}" if index else table)
        case _ if operation in _SAME_ACTION:
            assert params["TableName"] == TABLE
            yield Request(action=f"dynamodb:{operation}", resource=table)
        case _:
            raise NotImplementedError(f"dynamodb {operation}")


def _of_s3(operation: str, params: Mapping[str, Any], bucket: str) -> Iterator[Request]:
    assert params["Bucket"] == BUCKET
    if operation in _S3_LISTING:
        context = {**_TLS, "s3:prefix": params.get("Prefix", "")}
        yield Request(action=f"s3:{_S3_LISTING[operation]}", resource=bucket, context=context)
        return
    key = f"{bucket}/{params['Key']}"
    if operation == "PutObject":
        context = {**_TLS, "s3:ObjectCreationOperation": "true"}
        if "IfNoneMatch" in params:
            context["s3:if-none-match"] = params["IfNoneMatch"]
        yield Request(action="s3:PutObject", resource=key, context=context)
    elif operation in ("HeadObject", "GetObject", "DeleteObject"):
        version = "Version" if "VersionId" in params else ""
        yield Request(action=f"s3:{_S3_OBJECT.get(operation, operation)}{version}", resource=key, context=_TLS)
        if operation == "HeadObject":
            # Or a missing object answers 403 instead of 404. HeadObject has no prefix.
            yield Request(action="s3:ListBucket", resource=bucket, context=_TLS)
    else:
        raise NotImplementedError(f"s3 {operation}")


def _of_batch(operation: str, params: Mapping[str, Any], deployed: DeployedNames) -> Iterator[Request]:
    any_definition = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/"
    any_job = f"arn:aws:batch:{REGION}:{ACCOUNT}:job/"
    if operation in _BATCH_LOOKS:
        yield Request(action=f"batch:{operation}", resource="*")
    elif operation in _BATCH_STOPS:
        yield Request(action=f"batch:{operation}", resource=f"{any_job}{params['jobId']}")
    elif operation == "SubmitJob":
        yield Request(action="batch:SubmitJob", resource=deployed.queue(params["jobQueue"]))
        yield Request(action="batch:SubmitJob", resource=params["jobDefinition"])
        if params.get("tags"):
            yield Request(action="batch:TagResource", resource=f"{any_job}0a1b2c3d")
    elif operation == "RegisterJobDefinition":
        privileged = json.dumps(params["containerProperties"].get("privileged", False))
        yield Request(
            action="batch:RegisterJobDefinition",
            resource=f"{any_definition}{params['jobDefinitionName']}",
            context={"batch:Privileged": privileged},
        )
        for role in deployed.roles():
            passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            yield Request(action="iam:PassRole", resource=role, context=passed)
        # The stack's tags, which a copy keeps.
        yield Request(action="batch:TagResource", resource=f"{any_definition}{params['jobDefinitionName']}:1")
    else:
        raise NotImplementedError(f"batch {operation}")
