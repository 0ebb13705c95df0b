"""Build the `Deployment` from what was loaded: templates for what was asked, moto for the names that it gave."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emulation.aws import Aws
from emulation.templates import bucket_policy, launch_template
from emulation.templates.deployment import (
    ComputeEnvironment,
    Deployment,
    EventSource,
    Function,
    JobDefinition,
    JobQueue,
    Market,
    Queue,
    Resource,
    Rule,
    RuleTarget,
    StateTimeLimitAction,
    UnsupportedError,
)

if TYPE_CHECKING:
    from botocore.model import Shape

# AWS's defaults: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide, page of each type.
_VISIBILITY_TIMEOUT_SECONDS = 30
_FUNCTION_TIMEOUT_SECONDS = 3
_FUNCTION_MEMORY_MIB = 128
_BATCH_SIZE = 10
_ALLOCATION_STRATEGIES: dict[Market, str] = {
    "spot": "SPOT_PRICE_CAPACITY_OPTIMIZED",
    "on-demand": "BEST_FIT_PROGRESSIVE",
}
"""What `SpotMarket.launch` does."""
_MARKETS: dict[str, Market] = {"SPOT": "spot", "EC2": "on-demand"}


def read_back(
    aws: Aws, resources: Sequence[Resource], *, environment: str, account: str, region: str, stacks: tuple[str, ...]
) -> Deployment:
    """Return the deployment.

    Raises:
        UnsupportedError: naming the resource and what is not supported about it.
    """

    def each(resource_type: str, build: Callable[[Resource], Any]) -> list[Any]:
        return [build(resource) for resource in resources if resource.type == resource_type]

    queues: list[Queue] = each("AWS::SQS::Queue", lambda resource: _queue(aws, resource))
    urls = {queue.arn: queue.url for queue in queues}
    policies = {
        resource.physical_id: resource for resource in resources if resource.type == "AWS::Batch::SchedulingPolicy"
    }
    launch_templates = {
        resource.physical_id: resource for resource in resources if resource.type == "AWS::EC2::LaunchTemplate"
    }
    environments = each(
        "AWS::Batch::ComputeEnvironment", lambda resource: _compute_environment(aws, resource, launch_templates)
    )
    return Deployment(
        environment=environment,
        region=region,
        account=account,
        stacks=stacks,
        resources=tuple(resources),
        compute_environments={item.arn: item for item in environments},
        job_queues={
            item.arn: item for item in each("AWS::Batch::JobQueue", lambda resource: _job_queue(resource, policies))
        },
        job_definitions={
            item.arn: item
            for item in each("AWS::Batch::JobDefinition", lambda resource: _job_definition(aws, resource))
        },
        queues={queue.arn: queue for queue in queues},
        rules=tuple(each("AWS::Events::Rule", lambda resource: _rule(resource, urls))),
        functions={
            item.name: item for item in each("AWS::Lambda::Function", lambda resource: _function(aws, resource))
        },
        event_sources=tuple(each("AWS::Lambda::EventSourceMapping", lambda resource: _event_source(resource, urls))),
        create_only=tuple(keys for found in each("AWS::S3::BucketPolicy", bucket_policy.create_only) for keys in found),
    )


def api_case(properties: Any, shape: "Shape") -> Any:
    """Turn CloudFormation's PascalCase into the API's camelCase, by the API's own model.

    Keys of free-form maps (tags, parameters, log options) stay as they are; what the API does not have is dropped.
    """
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]  # a structure has members
        named = {(key[0].lower() + key[1:]): value for key, value in properties.items()}
        return {name: api_case(value, members[name]) for name, value in named.items() if name in members}
    if shape.type_name == "list":
        return [api_case(item, shape.member) for item in properties]  # type: ignore[attr-defined]  # as above
    if shape.type_name in {"integer", "long"}:
        return int(properties)
    return properties


def _name(resource: Resource) -> str:
    return resource.physical_id.rsplit("/", 1)[-1]


def _compute_environment(aws: Aws, resource: Resource, launch_templates: Mapping[str, Resource]) -> ComputeEnvironment:
    compute = resource.properties["ComputeResources"]
    if compute["Type"] not in _MARKETS:
        raise UnsupportedError(
            f"{resource.logical_id} has compute of type {compute['Type']}; the emulation has {sorted(_MARKETS)}"
        )
    market = _MARKETS[compute["Type"]]
    strategy = compute.get("AllocationStrategy", "BEST_FIT")  # AWS's default
    if strategy != _ALLOCATION_STRATEGIES[market]:
        raise UnsupportedError(
            f"{resource.logical_id} has the allocation strategy {strategy}; the emulation has "
            f"{_ALLOCATION_STRATEGIES[market]} for compute of type {compute['Type']}"
        )
    if int(compute.get("MinvCpus", 0)):
        raise UnsupportedError(
            f"{resource.logical_id} has MinvCpus {compute['MinvCpus']}; the emulation keeps no idle instances: use 0"
        )
    subnets = aws.ec2.describe_subnets(SubnetIds=compute["Subnets"])["Subnets"]
    launch_template_id = compute.get("LaunchTemplate", {}).get("LaunchTemplateId", "")
    template = launch_templates.get(launch_template_id)
    machine = template.properties["LaunchTemplateData"] if template else {}
    return ComputeEnvironment(
        arn=resource.physical_id,
        name=_name(resource),
        market=market,
        instance_types=tuple(compute["InstanceTypes"]),
        zones=tuple(sorted({subnet["AvailabilityZone"] for subnet in subnets})),
        max_vcpus=int(compute["MaxvCpus"]),
        stop_timeout_seconds=launch_template.stop_timeout_seconds(machine),
        metadata_reaches_containers=launch_template.metadata_reaches_containers(machine),
        enabled=resource.properties.get("State", "ENABLED") == "ENABLED",
    )


def _job_queue(resource: Resource, policies: Mapping[str, Resource]) -> JobQueue:
    properties = resource.properties
    order = sorted(properties["ComputeEnvironmentOrder"], key=lambda entry: int(entry["Order"]))
    policy = policies.get(properties.get("SchedulingPolicyArn", ""))
    return JobQueue(
        arn=resource.physical_id,
        name=_name(resource),
        priority=int(properties["Priority"]),
        enabled=properties.get("State", "ENABLED") == "ENABLED",
        compute_environments=tuple(entry["ComputeEnvironment"] for entry in order),
        state_time_limit_actions=tuple(
            StateTimeLimitAction(
                reason=action["Reason"],
                state=action["State"],
                max_time_seconds=int(action["MaxTimeSeconds"]),
                action=action["Action"],
            )
            for action in properties.get("JobStateTimeLimitActions", ())
        ),
        scheduling_policy_arn=policy.physical_id if policy else "",
    )


def fairshare_policy(aws: Aws, policy: Resource) -> dict[str, Any]:
    """Return a scheduling policy's fair-share settings as the API takes them."""
    request = aws.batch.meta.service_model.operation_model("CreateSchedulingPolicy").input_shape
    assert request is not None
    settings: dict[str, Any] = api_case(policy.properties, request)
    return dict(settings.get("fairsharePolicy", {}))


def _job_definition(aws: Aws, resource: Resource) -> JobDefinition:
    request = aws.batch.meta.service_model.operation_model("RegisterJobDefinition").input_shape
    assert request is not None
    name, revision = _name(resource).rsplit(":", 1)
    return JobDefinition(
        arn=resource.physical_id,
        name=name,
        revision=int(revision),
        properties={**api_case(resource.properties, request), "jobDefinitionName": name},
    )


def _queue(aws: Aws, resource: Resource) -> Queue:
    # moto's physical id is AWS's address; ask for the one that is served here.
    url = aws.sqs.get_queue_url(QueueName=_name(resource))["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = resource.properties.get("RedrivePolicy", {})
    return Queue(
        name=_name(resource),
        arn=arn,
        url=url,
        visibility_timeout_seconds=int(resource.properties.get("VisibilityTimeout", _VISIBILITY_TIMEOUT_SECONDS)),
        dead_letter_arn=redrive.get("deadLetterTargetArn", ""),
        max_receive_count=int(redrive.get("maxReceiveCount", 0)),
    )


def _rule(resource: Resource, urls: Mapping[str, str]) -> Rule:
    properties = resource.properties
    targets = properties.get("Targets", ())
    for target in targets:
        changing = sorted({"Input", "InputPath", "InputTransformer"} & set(target))
        if target["Arn"] not in urls or changing:
            raise UnsupportedError(
                f"rule {resource.logical_id} sends to {target['Arn']}{' through ' + changing[0] if changing else ''}; "
                "the emulation delivers whole events to SQS queues of the same environment"
            )
    return Rule(
        name=_name(resource),
        logical_id=resource.logical_id,
        enabled=properties.get("State", "ENABLED") == "ENABLED",
        pattern=properties.get("EventPattern", {}),
        schedule=properties.get("ScheduleExpression", ""),
        targets=tuple(
            RuleTarget(
                queue_arn=target["Arn"],
                queue_url=urls[target["Arn"]],
                dead_letter_arn=target.get("DeadLetterConfig", {}).get("Arn", ""),
            )
            for target in targets
        ),
    )


def _function(aws: Aws, resource: Resource) -> Function:
    properties = resource.properties
    arn = aws.functions.get_function_configuration(FunctionName=resource.physical_id)["FunctionArn"]
    code = properties["Code"]
    if "S3Key" not in code:
        raise UnsupportedError(f"function {resource.logical_id} has code of kind {sorted(code)}; wanted a zip asset")
    return Function(
        name=resource.physical_id,
        arn=arn,
        logical_id=resource.logical_id,
        code_bucket=code["S3Bucket"],
        code_key=code["S3Key"],
        handler=properties["Handler"],
        runtime=properties["Runtime"],
        timeout_seconds=int(properties.get("Timeout", _FUNCTION_TIMEOUT_SECONDS)),
        memory_mib=int(properties.get("MemorySize", _FUNCTION_MEMORY_MIB)),
        environment=dict(properties.get("Environment", {}).get("Variables", {})),
    )


def _event_source(resource: Resource, urls: Mapping[str, str]) -> EventSource:
    properties = resource.properties
    source = properties["EventSourceArn"]
    if source not in urls or "FilterCriteria" in properties:
        raise UnsupportedError(
            f"event source {resource.logical_id} reads {source}"
            f"{' through a filter' if 'FilterCriteria' in properties else ''}; "
            "the emulation reads whole SQS queues of the same environment"
        )
    return EventSource(
        queue_arn=source,
        queue_url=urls[source],
        # A name or an ARN.
        function_name=properties["FunctionName"].rsplit(":", 1)[-1],
        batch_size=int(properties.get("BatchSize", _BATCH_SIZE)),
        reports_batch_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", ()),
        enabled=bool(properties.get("Enabled", True)),
    )
