"""Ask the services of nine resource types whether they hold what the templates say.

These are the types whose settings something in the emulation relies on. That the others exist is CloudFormation's word
alone: `load` finds each in the list of its stack's resources, nobody reads their settings back. Of the nine, only the
settings named below are compared.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from emulation.aws import Aws
from emulation.templates.deployment import Deployment, Resource
from emulation.templates.repair import lifecycle_rule

# What the template says, then what the service says.
_Pairs = Iterator[tuple[str, Any, Any]]


def differences(aws: Aws, deployment: Deployment) -> tuple[str, ...]:
    """Return a line for each difference in the settings that are compared; none if there is none."""
    found = []
    for resource in deployment.resources:
        check = _CHECKS.get(resource.type)
        if check is None:
            continue
        try:
            for setting, wanted, held in check(aws, deployment, resource):
                if wanted != held:
                    found.append(
                        f"{resource.logical_id} ({resource.type}): {setting} should be {wanted!r}, is {held!r}"
                    )
        except ClientError as error:
            found.append(f"{resource.logical_id} ({resource.type}): {error}")
    return tuple(found)


def _bucket(aws: Aws, _: Deployment, resource: Resource) -> _Pairs:
    name = resource.physical_id
    wanted = resource.properties
    aws.s3.head_bucket(Bucket=name)
    yield (
        "versioning",
        wanted.get("VersioningConfiguration", {}).get("Status"),
        aws.s3.get_bucket_versioning(Bucket=name).get("Status"),
    )
    if "PublicAccessBlockConfiguration" in wanted:
        yield (
            "public access",
            wanted["PublicAccessBlockConfiguration"],
            aws.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        )
    if "LifecycleConfiguration" in wanted:
        rules = [lifecycle_rule(resource, rule) for rule in wanted["LifecycleConfiguration"]["Rules"]]
        held = aws.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        yield "lifecycle", {_rule_key(rule) for rule in rules}, {_rule_key(rule) for rule in held}


def _rule_key(rule: Any) -> str:
    return json.dumps({key: value for key, value in rule.items() if key != "ID"}, sort_keys=True)


def _table(aws: Aws, _: Deployment, resource: Resource) -> _Pairs:
    wanted = resource.properties
    held = aws.dynamodb.describe_table(TableName=resource.physical_id)["Table"]
    yield "keys", wanted["KeySchema"], held["KeySchema"]
    yield (
        "indexes",
        {index["IndexName"]: index["KeySchema"] for index in wanted.get("GlobalSecondaryIndexes", ())},
        {index["IndexName"]: index["KeySchema"] for index in held.get("GlobalSecondaryIndexes", ())},
    )
    if wanted.get("TimeToLiveSpecification", {}).get("Enabled"):
        time_to_live = aws.dynamodb.describe_time_to_live(TableName=resource.physical_id)["TimeToLiveDescription"]
        name = wanted["TimeToLiveSpecification"]["AttributeName"]
        yield "time to live", (name, "ENABLED"), (time_to_live.get("AttributeName"), time_to_live["TimeToLiveStatus"])


def _queue(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    (queue,) = (queue for queue in deployment.queues.values() if resource.physical_id.endswith("/" + queue.name))
    held = aws.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])["Attributes"]
    yield "visibility time-out", str(queue.visibility_timeout_seconds), held["VisibilityTimeout"]
    redrive = json.loads(held.get("RedrivePolicy", "{}"))
    yield "dead letters", queue.dead_letter_arn, redrive.get("deadLetterTargetArn", "")
    yield "receives", queue.max_receive_count, int(redrive.get("maxReceiveCount", 0))


def _function(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    function = deployment.functions[resource.physical_id]
    held = aws.functions.get_function_configuration(FunctionName=function.name)
    yield "handler", function.handler, held["Handler"]
    yield "time-out", function.timeout_seconds, held["Timeout"]
    yield "environment", dict(function.environment), held.get("Environment", {}).get("Variables", {})
    aws.s3.head_object(Bucket=function.code_bucket, Key=function.code_key)


def _compute_environment(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    environment = deployment.compute_environments[resource.physical_id]
    found = aws.batch.describe_compute_environments(computeEnvironments=[environment.arn])["computeEnvironments"]
    yield "number", 1, len(found)
    for held in found:
        yield "instance types", environment.instance_types, tuple(held["computeResources"]["instanceTypes"])
        yield "vCPU limit", environment.max_vcpus, int(held["computeResources"]["maxvCpus"])


def _job_queue(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    queue = deployment.job_queues[resource.physical_id]
    found = aws.batch.describe_job_queues(jobQueues=[queue.arn])["jobQueues"]
    yield "number", 1, len(found)
    for held in found:
        order = sorted(held["computeEnvironmentOrder"], key=lambda entry: entry["order"])
        yield "compute environments", queue.compute_environments, tuple(e["computeEnvironment"] for e in order)
        yield "scheduling policy", queue.scheduling_policy_arn, held.get("schedulingPolicyArn") or ""


def _job_definition(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    definition = deployment.job_definitions[resource.physical_id]
    found = aws.batch.describe_job_definitions(jobDefinitions=[definition.arn])["jobDefinitions"]
    yield "number", 1, len(found)
    for held in found:
        yield "time-out", definition.properties.get("timeout"), held.get("timeout")
        wanted = definition.properties.get("containerProperties", {})
        yield "image", wanted.get("image"), held.get("containerProperties", {}).get("image")


def _rule(aws: Aws, deployment: Deployment, resource: Resource) -> _Pairs:
    (rule,) = (rule for rule in deployment.rules if rule.logical_id == resource.logical_id)
    held = aws.events.describe_rule(Name=rule.name)
    yield "pattern", dict(rule.pattern), json.loads(held.get("EventPattern", "{}"))
    yield "schedule", rule.schedule, held.get("ScheduleExpression", "")


def _parameter(aws: Aws, _: Deployment, resource: Resource) -> _Pairs:
    held = aws.ssm.get_parameter(Name=resource.physical_id)["Parameter"]
    yield "value", resource.properties["Value"], held["Value"]


_CHECKS: Final[Mapping[str, Callable[[Aws, Deployment, Resource], _Pairs]]] = {
    "AWS::Batch::ComputeEnvironment": _compute_environment,
    "AWS::Batch::JobDefinition": _job_definition,
    "AWS::Batch::JobQueue": _job_queue,
    "AWS::DynamoDB::Table": _table,
    "AWS::Events::Rule": _rule,
    "AWS::Lambda::Function": _function,
    "AWS::S3::Bucket": _bucket,
    "AWS::SQS::Queue": _queue,
    "AWS::SSM::Parameter": _parameter,
}
"""The types whose services are asked."""
