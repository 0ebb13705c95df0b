"""Load a cloud assembly into moto, and check that what was created is there.

CloudFormation in moto answers CREATE_COMPLETE for stacks that lack resources, so that word counts for nothing: each
resource that is not skipped must be in the stack's list, with a physical id if moto gives its type one, and the
services of the types that the emulation relies on are asked for their settings (`verify`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from emulation.aws import Aws
from emulation.server import Failure
from emulation.templates import adapt, read_back, repair, verify
from emulation.templates.adapt import Note, Scope
from emulation.templates.assembly import Assembly, StackTemplate
from emulation.templates.deployment import Deployment, Resource
from emulation.templates.existing_network import stand_in
from emulation.templates.nearer_deadlines import bring_nearer

DEFAULT_ACCOUNT: Final = "123456789012"
DEFAULT_REGION: Final = "us-east-1"

# moto lists these without a physical id.
_WITHOUT_PHYSICAL_ID: Final = frozenset({"AWS::EC2::SecurityGroupIngress", "AWS::Lambda::Permission"})
_BOOTSTRAP_STACK: Final = "emulation-bootstrap"


class LoadError(RuntimeError):
    """The templates were not loaded as they are: the emulation would prove nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What differs between the templates and what was created."""

    created: tuple[Resource, ...]
    adapted: tuple[Note, ...]
    """Changed so that moto could load them."""
    repaired: tuple[Note, ...]
    """Dropped by moto and set again through the API."""
    skipped: tuple[Note, ...]
    """Not created."""
    images: tuple[str, ...]
    """Container images that were not built; jobs run as processes."""

    def summary(self) -> str:
        """Return one line of counts."""
        return (
            f"{len(self.created)} resources created and checked, {len(self.adapted)} of their settings adapted, "
            f"{len(self.repaired)} repaired, {len(self.skipped)} resources skipped"
        )

    def lines(self) -> tuple[str, ...]:
        """Return a line for each difference, with its reason."""
        notes = (("adapted", self.adapted), ("repaired", self.repaired), ("skipped", self.skipped))
        return (
            *(f"{kind}  {note.logical_id} ({note.type}): {note.reason}" for kind, found in notes for note in found),
            *(f"skipped  image {image}: jobs run as processes of this machine" for image in self.images),
        )


def location(assembly: Assembly) -> tuple[str, str]:
    """Return the account and region of an assembly.

    Raises:
        ValueError: if its stacks stand in several.
    """
    accounts = {stack.account or DEFAULT_ACCOUNT for stack in assembly.stacks}
    regions = {stack.region or DEFAULT_REGION for stack in assembly.stacks}
    if len(accounts) != 1 or len(regions) != 1:
        raise ValueError(
            f"the emulation is one account in one region; the stacks are in {sorted(accounts)} and {sorted(regions)}"
        )
    return accounts.pop(), regions.pop()


def load(
    assembly: Assembly,
    aws: Aws,
    *,
    environment: str,
    speed: float = 1.0,
    failures: Callable[[], tuple[Failure, ...]] = tuple,
    adaptations: tuple[adapt.Adaptation, ...] = adapt.ADAPTATIONS,
) -> tuple[Deployment, LoadReport]:
    """Create every stack and return what stands there; takes about 2 s the first time in a process.

    `failures` returns what the endpoint could not do, to explain an error that only says 500. `speed` is the clock's.

    Raises:
        UnknownResourceTypeError: if a template has a type of which nobody has said how it is treated.
        LoadError: if moto fails, or a resource is missing or a compared setting different afterwards.
        UnsupportedError: if a template asks for what the emulation does not do.
    """
    account, region = location(assembly)
    _bootstrap(assembly, aws, account=account, region=region, failures=failures)
    resources: list[Resource] = []
    stacks, existing = stand_in(aws, assembly.stacks)
    adapted: list[Note] = list(existing)
    skipped: list[Note] = []
    outputs_by_stack: dict[str, dict[str, str]] = {}
    for stack in stacks:
        scope = Scope(stack=stack.name, account=account, region=region, outputs=outputs_by_stack)
        loadable = adapt.adapt(stack.template, scope, adaptations)
        outputs = _create_stack(aws, stack.name, loadable.template, failures)
        outputs_by_stack[stack.name] = outputs
        resources += _resources(aws, stack, scope, outputs)
        adapted += loadable.adapted
        skipped += loadable.skipped
    repaired = repair.repair(aws, resources)
    deployment = read_back.read_back(
        aws,
        resources,
        environment=environment,
        account=account,
        region=region,
        stacks=tuple(stack.name for stack in assembly.stacks),
    )
    wrong = verify.differences(aws, deployment)
    if wrong:
        raise LoadError("moto does not hold what the templates say:\n  " + "\n  ".join(wrong))
    # After the comparison with the template, from which it departs.
    nearer = bring_nearer(aws, tuple(resources), environment=environment, speed=speed)
    report = LoadReport(
        created=tuple(resource for resource in resources if resource.type not in adapt.SKIPPED),
        adapted=(*adapted, *nearer),
        repaired=repaired,
        skipped=tuple(skipped),
        images=assembly.image_assets,
    )
    return deployment, report


def _bootstrap(
    assembly: Assembly, aws: Aws, *, account: str, region: str, failures: Callable[[], tuple[Failure, ...]]
) -> None:
    """Make what an account has before its first deployment: CDK's asset bucket and Batch's service-linked role."""

    def in_place(text: str) -> str:
        replacements = {"AccountId": account, "Region": region, "Partition": "aws"}
        for name, value in replacements.items():
            text = text.replace(f"${{AWS::{name}}}", value)
        return text

    buckets = sorted({in_place(asset.bucket) for asset in assembly.file_assets})
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": adapt.SERVICE_ROLE_NAME,
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
        },
    }
    template = {
        "Resources": {
            "BatchServiceRole": role,
            **{
                f"Assets{index}": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}
                for index, bucket in enumerate(buckets)
            },
        }
    }
    _create_stack(aws, _BOOTSTRAP_STACK, template, failures)
    for asset in assembly.file_assets:
        aws.s3.put_object(Bucket=in_place(asset.bucket), Key=in_place(asset.key), Body=asset.content())


def _create_stack(
    aws: Aws, name: str, template: Mapping[str, Any], failures: Callable[[], tuple[Failure, ...]]
) -> dict[str, str]:
    # moto reads every template as YAML first, which takes it a hundred times as long; what begins with a tab is none.
    body = "\t" + json.dumps(template, separators=(",", ":"))
    try:
        aws.cloudformation.create_stack(StackName=name, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
        (stack,) = aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
    except (ClientError, ResponseParserError) as error:
        # A 500 from moto is no XML: boto3 then says ResponseParserError, and the reason is with the server.
        reasons = "; ".join(failure.error for failure in failures()) or str(error)
        raise LoadError(f"stack {name} could not be loaded into moto: {reasons}") from error
    if stack["StackStatus"] != "CREATE_COMPLETE":
        raise LoadError(
            f"stack {name} ended as {stack['StackStatus']}: {stack.get('StackStatusReason', 'no reason given')}"
        )
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}


def _resources(aws: Aws, stack: StackTemplate, scope: Scope, outputs: Mapping[str, str]) -> list[Resource]:
    listed = {
        summary["LogicalResourceId"]: summary.get("PhysicalResourceId", "")
        for page in aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
        for summary in page["StackResourceSummaries"]
    }
    resources = []
    missing = []
    for logical_id, resource in stack.template["Resources"].items():
        resource_type = resource["Type"]
        if resource_type in adapt.SKIPPED:
            physical_id = adapt.stand_in(resource_type, scope, logical_id)
        else:
            physical_id = listed.get(logical_id, "")
            if not physical_id and not (logical_id in listed and resource_type in _WITHOUT_PHYSICAL_ID):
                missing.append(f"{logical_id} ({resource_type})")
        resources.append(
            Resource(
                stack=stack.name,
                logical_id=logical_id,
                type=resource_type,
                physical_id=physical_id,
                properties=adapt.resolved_properties(outputs, logical_id),
            )
        )
    if missing:
        raise LoadError(f"moto says that stack {stack.name} is complete, but it lacks {', '.join(missing)}")
    return resources
