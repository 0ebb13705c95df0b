"""Queues, hosts and job definitions of the enabled profiles, and the descriptor by which programs find them."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from spotkeeper.contract import descriptor, environment_variables, tags
from spotkeeper.contract.names import descriptor_parameter
from stacks.constructs.deployed_length import most_characters
from stacks.constructs.image_repository import ImageRepository
from stacks.constructs.job_host import JobHost
from stacks.constructs.job_roles import ExecutionRole, HostRole, JobRole
from stacks.constructs.market_queue import Market, MarketQueue
from stacks.constructs.submit_policy import SubmitPolicy
from stacks.constructs.trainer_image import image_uri, repositories_of
from stacks.constructs.training_job import TrainingJob
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment, Profile

DESCRIPTOR_CHARACTERS: Final = 8192
"""What an advanced SSM parameter takes."""


class BatchStack(EnvironmentStack):
    """For each profile a spot queue, an on-demand queue and a job definition."""

    job_queue_arns: list[str]
    """Of both markets."""
    on_demand_queue_arns: list[str]
    descriptor_characters: int
    """Characters of the descriptor, at most: names are known only once they are deployed."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        subnet_ids: list[str],
        security_group_id: str,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        images: ImageRepository,
        training: descriptor.Training | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        self._environment = environment
        self._training = training
        self._subnet_ids = subnet_ids
        self._security_group_id = security_group_id
        self._images = images
        self._logs = logs.LogGroup(
            self,
            "JobLogs",
            retention=environment.log_retention,
            removal_policy=cdk.RemovalPolicy.RETAIN if environment.is_protected else cdk.RemovalPolicy.DESTROY,
        )
        self._host_role = HostRole(self, "HostRole")
        self._job_role = JobRole(
            self, "JobRole", checkpoints=checkpoints, ledger=ledger, data_prefixes=environment.data_prefixes
        )
        self._execution_role = ExecutionRole(
            self,
            "ExecutionRole",
            image_repositories=[images, *repositories_of(self, environment)],
            log_group=self._logs,
            secret_arns=environment.secret_arns,
        )
        self._job_environment = {
            environment_variables.ENVIRONMENT: environment.name,
            environment_variables.LEDGER_TABLE: ledger.table_name,
            environment_variables.CHECKPOINT_URI: f"s3://{checkpoints.bucket_name}",
            # On EC2 hosts nothing else tells boto3 the region.
            "AWS_DEFAULT_REGION": environment.region,
        }

        profiles = {profile.name: self._add_profile(profile) for profile in environment.profiles}
        self.job_queue_arns = [
            arn for profile in profiles.values() for arn in (profile.spot_queue, profile.on_demand_queue)
        ]
        self.on_demand_queue_arns = [profile.on_demand_queue for profile in profiles.values()]
        SubmitPolicy(
            self,
            "SubmitPolicy",
            environment_name=environment.name,
            descriptor_parameter=descriptor_parameter(environment.name),
            spot_queue_arns=[profile.spot_queue for profile in profiles.values()],
            on_demand_queue_arns=self.on_demand_queue_arns,
            job_roles=[self._job_role, self._execution_role],
            job_logs=self._logs,
            checkpoints=checkpoints,
            ledger=ledger,
        )
        self._add_descriptor(profiles, checkpoints, ledger)

    def _add_descriptor(
        self, profiles: dict[str, descriptor.Profile], checkpoints: s3.IBucket, ledger: dynamodb.ITable
    ) -> None:
        environment = self._environment
        text = descriptor.Descriptor(
            environment=environment.name,
            region=environment.region,
            checkpoint_bucket=checkpoints.bucket_name,
            ledger_table=ledger.table_name,
            job_log_group=self._logs.log_group_name,
            default_profile=environment.default_profile,
            profiles=profiles,
            teams=environment.teams,
            data_prefixes=environment.data_prefixes,
            secret_arns=environment.secret_arns,
            trainer_images={str(variant): image for variant, image in environment.trainer_images.items()},
            max_attempt_seconds=environment.max_attempt_seconds,
            runnable_limit_seconds=environment.runnable_limit_seconds,
            spot_max_vcpus=environment.spot_max_vcpus,
            on_demand_max_vcpus=environment.on_demand_max_vcpus,
            placement=descriptor.Placement(
                fallback_after_seconds=environment.fallback_after_seconds,
                segment_seconds=environment.segment_seconds,
                standby_after_seconds=environment.standby_after_seconds,
                standby_age_seconds=environment.standby_age_seconds,
                standby_patience_seconds=environment.standby_patience_seconds,
            ),
            caps=descriptor.Caps(
                fallback_usd=environment.fallback_cap_usd_per_month, total_usd=environment.total_cap_usd_per_month
            ),
            team_caps=dict(environment.team_caps),
            training=self._training,
        ).to_json()
        self.descriptor_characters = most_characters(self, text)
        if self.descriptor_characters > DESCRIPTOR_CHARACTERS:
            raise ValueError(
                f"the descriptor of environment {environment.name!r} may take {self.descriptor_characters} characters, "
                f"and an SSM parameter takes {DESCRIPTOR_CHARACTERS}: name fewer profiles, teams, data prefixes or "
                "secrets, or divide them between two environments"
            )
        ssm.StringParameter(
            self,
            "Descriptor",
            # Standard, which is free, up to 4,096 characters; above them advanced.
            tier=ssm.ParameterTier.INTELLIGENT_TIERING,
            parameter_name=descriptor_parameter(environment.name),
            description="Spotkeeper: what this environment tells the command line",
            string_value=text,
        )

    def _add_profile(self, profile: Profile) -> descriptor.Profile:
        scope = Construct(self, profile.name)
        host = JobHost(
            scope,
            "Host",
            root_volume_gib=profile.root_volume_gib,
            volume_tags={
                tags.PROJECT: tags.PROJECT_VALUE,
                tags.ENVIRONMENT: self._environment.name,
                tags.PROFILE: profile.name,
            },
        )
        job = TrainingJob(
            scope,
            "Job",
            profile=profile,
            image_uri=image_uri(self._environment, profile, self._images.uri),
            environment_variables=self._job_environment,
            job_role_arn=self._job_role.role_arn,
            execution_role_arn=self._execution_role.role_arn,
            log_group_name=self._logs.log_group_name,
            region=self._environment.region,
            max_attempt_seconds=self._environment.max_attempt_seconds,
        )
        return descriptor.Profile(
            spot_queue=self._add_queue(scope, "Spot", "spot", profile, host).arn,
            on_demand_queue=self._add_queue(scope, "OnDemand", "on-demand", profile, host).arn,
            job_definition=job.arn,
            vcpus=profile.vcpus,
            memory_mib=profile.memory_mib,
            gpus=profile.gpus,
            spot_instance_types=profile.spot_instance_types,
            on_demand_instance_types=profile.on_demand_instance_types,
            usd_per_hour=self._environment.prices_of(profile),
        )

    def _add_queue(self, scope: Construct, id_: str, market: Market, profile: Profile, host: JobHost) -> MarketQueue:
        return MarketQueue(
            scope,
            id_,
            market=market,
            profile=profile,
            environment=self._environment,
            subnet_ids=self._subnet_ids,
            security_group_id=self._security_group_id,
            instance_profile_arn=self._host_role.instance_profile_arn,
            launch_template=host.specification,
        )
