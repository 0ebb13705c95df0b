"""The environment under examination, and what several checks look up of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.names import stack_name
from spotkeeper.ops.connection import Connection


class StackMissing(Exception):  # noqa: N818 - becomes a finding
    """The environment lacks one of its stacks; the message is its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A deployed environment at a moment."""

    connection: Connection
    now: datetime

    @property
    def descriptor(self) -> Descriptor:
        """What the environment tells about itself."""
        return self.connection.descriptor

    @property
    def deploy(self) -> str:
        """The command that puts back what a deployment made."""
        return f"`make deploy ENV={self.descriptor.environment}`"

    def client(self, service: str) -> Any:
        """Return a client of an AWS service, by boto3's name."""
        return self.connection.client(service)

    def aws(self, command: str) -> str:
        """Return a command of the AWS CLI in backticks, in the environment's region."""
        return f"`aws {command} --region {self.descriptor.region}`"

    def resources(self, part: str, *types: str) -> dict[str, str]:
        """Return physical ids by logical id of a stack's resources of some CloudFormation types.

        Raises:
            StackMissing: if the stack was not deployed.
        """
        name = stack_name(self.descriptor.environment, part)
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
        try:
            found = [summary for page in pages for summary in page["StackResourceSummaries"]]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise StackMissing(name) from error
        return {
            summary["LogicalResourceId"]: summary.get("PhysicalResourceId", "")
            for summary in found
            if summary["ResourceType"] in types
        }

    def job_queues(self) -> list[dict[str, Any]]:
        """Describe the queues of all profiles. One that was deleted is missing."""
        arns = [
            arn
            for profile in self.descriptor.profiles.values()
            for arn in (profile.spot_queue, profile.on_demand_queue)
        ]
        return self._described("describe_job_queues", "jobQueues", sorted(set(arns)))

    def compute_environments(self) -> list[dict[str, Any]]:
        """Describe the compute environments behind the queues."""
        arns = {
            member["computeEnvironment"] for queue in self.job_queues() for member in queue["computeEnvironmentOrder"]
        }
        return self._described("describe_compute_environments", "computeEnvironments", sorted(arns))

    def launch_templates(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield, of each launch template in use, its id with the version and its data."""
        used = {
            (template["launchTemplateId"], template.get("version", "$Default"))
            for hosts in self.compute_environments()
            if (template := hosts.get("computeResources", {}).get("launchTemplate"))
        }
        ec2 = self.client("ec2")
        for id_, version in sorted(used):
            found = ec2.describe_launch_template_versions(LaunchTemplateId=id_, Versions=[version])
            for described in found["LaunchTemplateVersions"]:
                yield f"{id_} version {described['VersionNumber']}", described["LaunchTemplateData"]

    def _described(self, operation: str, field: str, arns: list[str]) -> list[dict[str, Any]]:
        if not arns:  # Without a name AWS Batch would describe all of the account.
            return []
        batch = self.connection.batch_client
        pages = batch.get_paginator(operation).paginate(**{field: arns})  # type: ignore[call-overload]
        return [described for page in pages for described in page[field]]
