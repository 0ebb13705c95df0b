"""What was deployed: the facts that the emulation's own parts need, read from the synthesized templates.

Everything here comes from the templates with references resolved to what moto created. Names are AWS's;
quantities carry their units; ARNs are what AWS calls return.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Market = Literal["spot", "on-demand"]


class UnsupportedError(ValueError):
    """A template asks for something that the emulation does not do, and must not pretend to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One resource of a template, as it was created."""

    stack: str
    logical_id: str
    type: str
    """CloudFormation's type, such as `AWS::SQS::Queue`."""
    physical_id: str
    properties: Mapping[str, Any]
    """The template's properties with every reference resolved, in CloudFormation's PascalCase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeEnvironment:
    """Instances that a queue may use: one market, some types, some zones."""

    arn: str
    name: str
    market: Market
    instance_types: tuple[str, ...]
    """As written in the template: types (`g5.xlarge`) or families (`c6i`)."""
    zones: tuple[str, ...]
    """Availability zones of its subnets, such as `us-east-1a`."""
    max_vcpus: int
    stop_timeout_seconds: float
    """From SIGTERM to SIGKILL when a task is stopped: the ECS agent's setting in the launch template's user data."""
    metadata_reaches_containers: bool
    """Whether the launch template's hop limit lets IMDS answer a container, which is one hop from its host."""
    enabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StateTimeLimitAction:
    """When a queue gives up on a job that stays at its head."""

    reason: str
    """Batch's status-reason prefix, such as `CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY`."""
    state: str
    max_time_seconds: int
    action: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQueue:
    """A Batch job queue, with what moto does not keep of it."""

    arn: str
    name: str
    priority: int
    enabled: bool
    compute_environments: tuple[str, ...]
    """ARNs, in the order in which Batch tries them."""
    state_time_limit_actions: tuple[StateTimeLimitAction, ...]
    scheduling_policy_arn: str
    """Empty for a first-in, first-out queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDefinition:
    """A Batch job definition."""

    arn: str
    """Ends in `:revision`."""
    name: str
    revision: int
    properties: Mapping[str, Any]
    """What RegisterJobDefinition takes (API camelCase): `containerProperties`, `retryStrategy`, `timeout`,
    `propagateTags`, `platformCapabilities`, `parameters`, `tags`, …; absent where the template says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """An SQS queue."""

    name: str
    arn: str
    url: str
    visibility_timeout_seconds: int
    dead_letter_arn: str
    """Empty without a redrive policy."""
    max_receive_count: int
    """Receives after which a message moves to the dead letters; 0 without a redrive policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleTarget:
    """A queue that an event rule sends to."""

    queue_arn: str
    queue_url: str
    dead_letter_arn: str
    """Where events go that cannot be delivered; empty without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An EventBridge rule: a pattern, or a schedule."""

    name: str
    logical_id: str
    enabled: bool
    pattern: Mapping[str, Any]
    """Empty for a rule that only has a schedule."""
    schedule: str
    """Such as `rate(5 minutes)`; empty for a rule that only has a pattern."""
    targets: tuple[RuleTarget, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A Lambda function as it would be published."""

    name: str
    arn: str
    logical_id: str
    code_bucket: str
    code_key: str
    """The published zip archive in S3."""
    handler: str
    runtime: str
    timeout_seconds: int
    memory_mib: int
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSource:
    """A queue that feeds a function."""

    queue_arn: str
    queue_url: str
    function_name: str
    batch_size: int
    reports_batch_item_failures: bool
    enabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateOnly:
    """Keys of a bucket that its policy lets nobody write without `If-None-Match`."""

    bucket: str
    key_prefix: str
    exempts_parts: bool
    """Whether the parts of a multipart upload, which take no such header, are let through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """An environment as it stands in the emulation. Mappings are keyed by ARN unless they say otherwise."""

    environment: str
    region: str
    account: str
    stacks: tuple[str, ...]
    """In the order in which they were created."""
    resources: tuple[Resource, ...]
    compute_environments: Mapping[str, ComputeEnvironment] = field(default_factory=dict)
    job_queues: Mapping[str, JobQueue] = field(default_factory=dict)
    job_definitions: Mapping[str, JobDefinition] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    functions: Mapping[str, Function] = field(default_factory=dict)
    """Keyed by function name."""
    event_sources: tuple[EventSource, ...] = ()
    create_only: tuple[CreateOnly, ...] = ()

    def of_type(self, resource_type: str) -> tuple[Resource, ...]:
        """Return the resources of a CloudFormation type, in template order."""
        return tuple(resource for resource in self.resources if resource.type == resource_type)

    def one(self, resource_type: str, logical_id_prefix: str = "") -> Resource:
        """Return the only resource of a type, or the only one whose logical id begins so.

        Raises:
            LookupError: if there is none or more than one; the message names those there are.
        """
        of_type = self.of_type(resource_type)
        found = [resource for resource in of_type if resource.logical_id.startswith(logical_id_prefix)]
        if len(found) != 1:
            raise LookupError(
                f"wanted one {resource_type} whose logical id begins with {logical_id_prefix!r}, found {len(found)}; "
                f"the environment has {[resource.logical_id for resource in of_type]}"
            )
        return found[0]
