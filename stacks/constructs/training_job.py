"""The job definition of a profile."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_batch as batch
from constructs import Construct

from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.events import HOST_LOST_STATUS_REASON
from spotkeeper.contract.exit_codes import EXIT_YIELDED
from stacks.settings import Profile

USER: Final = "10001:10001"
"""User and group of the process; `trainer_image/Dockerfile` creates them."""

ATTEMPTS: Final = 10
"""Attempts of a spot job: AWS Batch's maximum. On-demand jobs are submitted with 1."""

SCHEDULING_PRIORITY: Final = 100
"""Rank among the jobs of one team, 0 to 9999, higher first. AWS Batch refuses a job without one on a fair-share queue.

Not 0, which leaves no rank behind: a job that should wait for ordinary ones (0 to 99) and one that should overtake
them (101 to 9999) override it when they are submitted.
"""

# The first rule that matches decides, and a job that matches none is retried: so the two outcomes that another
# attempt can mend come first, and the rest ends. `reason` and `exitCode` may be absent, and "*" matches only
# what is there; one of the three last rules always does. Five rules are AWS's limit.
RETRY_RULES: Final = (
    {"onStatusReason": f"{HOST_LOST_STATUS_REASON}*", "action": "RETRY"},
    {"onExitCode": str(EXIT_YIELDED), "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
    {"onStatusReason": "*", "action": "EXIT"},
    {"onExitCode": "*", "action": "EXIT"},
)


class TrainingJob(Construct):
    """Job definition: one container that fills a host of the profile, without privileges, under a time limit.

    Submit overrides command and environment. Earlier revisions stay registered: runs that started with one
    finish with it.
    """

    arn: str
    """With the revision, which every change of the definition raises."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        profile: Profile,
        image_uri: str,
        environment_variables: dict[str, str],
        job_role_arn: str,
        execution_role_arn: str,
        log_group_name: str,
        region: str,
        max_attempt_seconds: int,
    ) -> None:
        super().__init__(scope, id_)
        requirements = {"VCPU": profile.vcpus, "MEMORY": profile.memory_mib, "GPU": profile.gpus}
        definition = batch.CfnJobDefinition(
            self,
            "Definition",
            type="container",
            platform_capabilities=["EC2"],
            propagate_tags=True,
            scheduling_priority=SCHEDULING_PRIORITY,
            resource_retention_policy=batch.CfnJobDefinition.ResourceRetentionPolicyProperty(
                skip_deregister_on_update=True
            ),
            timeout=batch.CfnJobDefinition.TimeoutProperty(attempt_duration_seconds=max_attempt_seconds),
            retry_strategy=batch.CfnJobDefinition.RetryStrategyProperty(
                attempts=ATTEMPTS, evaluate_on_exit=list(RETRY_RULES)
            ),
            container_properties=batch.CfnJobDefinition.ContainerPropertiesProperty(
                image=image_uri,
                command=[*ENTRY_POINT, "true"],
                resource_requirements=[
                    batch.CfnJobDefinition.ResourceRequirementProperty(type=type_, value=str(value))
                    for type_, value in requirements.items()
                    if value
                ],
                environment=[
                    batch.CfnJobDefinition.EnvironmentProperty(name=name, value=value)
                    for name, value in sorted(environment_variables.items())
                ],
                user=USER,
                privileged=False,
                # Programs write: caches, unpacked source, scratch files.
                readonly_root_filesystem=False,
                linux_parameters=batch.CfnJobDefinition.LinuxParametersProperty(
                    # An init forwards SIGTERM and reaps: as PID 1 a shell would swallow the signal.
                    init_process_enabled=True,
                    shared_memory_size=profile.shared_memory_mib,
                ),
                job_role_arn=job_role_arn,
                execution_role_arn=execution_role_arn,
                log_configuration=batch.CfnJobDefinition.LogConfigurationProperty(
                    log_driver="awslogs",
                    options={
                        "awslogs-group": log_group_name,
                        "awslogs-region": region,
                        "awslogs-stream-prefix": profile.name,
                    },
                ),
            ),
        )
        # A run is pinned to a revision: its next submission needs it, even where the definition was replaced or its
        # profile disabled. A registered definition costs nothing.
        definition.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        self.arn = definition.ref
