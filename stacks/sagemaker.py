"""What runs need on SageMaker, which has no queues or hosts of ours: a role, a place in the network, a key.

All of it by settings (`stacks.training_settings`), and the stack only where there are some.
"""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_batch as batch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import descriptor
from stacks.constructs.image_repository import ImageRepository
from stacks.constructs.trainer_image import repositories_of
from stacks.constructs.training_policies import SubmitTrainingPolicy
from stacks.constructs.training_role import TrainingRole
from stacks.constructs.weak_reference import weak
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment
from stacks.training_settings import TrainingSettings

_FAIR_SHARE_WINDOW_SECONDS: Final = 24 * 3600


class SageMakerStack(EnvironmentStack):
    """Role, security group, key and, if wanted, a queue of AWS Batch for training jobs."""

    role_arn: str

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        training: TrainingSettings,
        vpc: ec2.IVpc,
        subnet_ids: list[str],
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        images: ImageRepository,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        self._environment = environment
        self._training = training
        self._subnet_ids = subnet_ids if training.is_in_vpc else []
        self._security_group_id = self._nodes(vpc).security_group_id if training.is_in_vpc else None
        self._key = self._own_key() if training.has_own_key else None
        self.role_arn = TrainingRole(
            self,
            "TrainingRole",
            environment_name=environment.name,
            checkpoints=checkpoints,
            ledger=ledger,
            data_prefixes=environment.data_prefixes,
            image_repositories=[images, *repositories_of(self, environment)],
            key=self._key,
            subnet_ids=self._subnet_ids,
            security_group_id=self._security_group_id,
        ).role_arn
        instances = training.service_queue_instances
        self._service_queue_arn = self._service_queue(instances) if instances is not None else None
        SubmitTrainingPolicy(
            self,
            "SubmitTrainingPolicy",
            environment=environment,
            training=training,
            training_role_arn=self.role_arn,
            checkpoints=checkpoints,
            service_queue_arn=self._service_queue_arn,
        )

    def describe(self) -> descriptor.Training:
        """Return what the descriptor tells of this stack, for the stack that writes it.

        Only the role is held by an export, since nothing runs without it. Key, group and queue come and go with their
        settings, which an export would forbid.
        """
        training = self._training
        return descriptor.Training(
            role_arn=self.role_arn,
            default_profile=training.default_profile,
            profiles={
                profile.name: descriptor.TrainingProfile(
                    spot_instance_types=profile.spot_instance_types,
                    on_demand_instance_types=profile.on_demand_instance_types,
                    gpus=profile.gpus,
                    volume_gb=profile.volume_gib,
                    image_variant=profile.image_variant,
                    usd_per_hour=training.prices_of(profile, self._environment.region),
                )
                for profile in training.profiles
            },
            starting_seconds=training.starting_seconds,
            subnet_ids=tuple(self._subnet_ids),
            security_group_ids=(weak(self._security_group_id),) if self._security_group_id else (),
            kms_key_arn=weak(self._key.key_arn) if self._key else None,
            is_isolated=training.is_isolated,
            encrypts_between_nodes=training.encrypts_between_nodes,
            service_queue=weak(self._service_queue_arn) if self._service_queue_arn else None,
        )

    def _nodes(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        nodes = ec2.SecurityGroup(
            self,
            "Nodes",
            vpc=vpc,
            description="Nodes of training jobs: only one another come in",
            allow_all_outbound=True,
        )
        # Nodes of one job talk on ports that NCCL chooses. Jobs share the group, as they share the role.
        nodes.add_ingress_rule(nodes, ec2.Port.all_traffic(), "nodes of a job")
        return nodes

    def _own_key(self) -> kms.Key:
        return kms.Key(
            self,
            "Key",
            description="Spotkeeper: volumes and output of training jobs",
            enable_key_rotation=True,
            # Output that was encrypted under it can be read with it only.
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )

    def _service_queue(self, instances: int) -> str:
        service = batch.CfnServiceEnvironment(
            self,
            "ServiceEnvironment",
            service_environment_type="SAGEMAKER_TRAINING",
            capacity_limits=[
                batch.CfnServiceEnvironment.CapacityLimitProperty(max_capacity=instances, capacity_unit="NUM_INSTANCES")
            ],
        )
        # From the start, because a queue without a policy can never be given one.
        shares = batch.CfnSchedulingPolicy(
            self,
            "Shares",
            fairshare_policy=batch.CfnSchedulingPolicy.FairsharePolicyProperty(
                share_decay_seconds=_FAIR_SHARE_WINDOW_SECONDS,
                share_distribution=[
                    batch.CfnSchedulingPolicy.ShareAttributesProperty(share_identifier=team, weight_factor=1)
                    for team in self._environment.teams
                ],
            ),
        )
        queue = batch.CfnJobQueue(
            self,
            "ServiceQueue",
            job_queue_type="SAGEMAKER_TRAINING",
            priority=1,
            scheduling_policy_arn=shares.attr_arn,
            service_environment_order=[
                batch.CfnJobQueue.ServiceEnvironmentOrderProperty(order=1, service_environment=service.ref)
            ],
        )
        arn: str = queue.ref
        return arn
