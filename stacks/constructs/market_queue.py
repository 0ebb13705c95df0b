"""One market of one profile: a compute environment, and the fair-share queue in front of it."""

from typing import Final, Literal

from aws_cdk import aws_batch as batch
from constructs import Construct

from spotkeeper.contract import tags
from stacks.settings import Environment, Profile

Market = Literal["spot", "on-demand"]

UPDATE_TIMEOUT_MINUTES: Final = 7200
"""How long running jobs may go on after their compute environment was changed: AWS Batch's maximum."""

CAPACITY_REASON: Final = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
MISCONFIGURATION_REASONS: Final = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
)
"""A job at the head of the queue that can never start: it would block all others, so it goes as early as Batch can."""

_SHORTEST_LIMIT_SECONDS: Final = 600
_FAIR_SHARE_WINDOW_SECONDS: Final = 24 * 3600


class MarketQueue(Construct):
    """A queue that takes capacity from one market only.

    Two queues rather than one over both: a mixed queue would spend on on-demand without asking the budget, and
    would hide that spot is dry.
    """

    arn: str

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        market: Market,
        profile: Profile,
        environment: Environment,
        subnet_ids: list[str],
        security_group_id: str,
        instance_profile_arn: str,
        launch_template: dict[str, str],
    ) -> None:
        super().__init__(scope, id_)
        is_spot = market == "spot"
        hosts = batch.CfnComputeEnvironment(
            self,
            "ComputeEnvironment",
            type="MANAGED",
            compute_resources=batch.CfnComputeEnvironment.ComputeResourcesProperty(
                type="SPOT" if is_spot else "EC2",
                allocation_strategy="SPOT_PRICE_CAPACITY_OPTIMIZED" if is_spot else "BEST_FIT_PROGRESSIVE",
                minv_cpus=0,
                maxv_cpus=environment.spot_max_vcpus if is_spot else environment.on_demand_max_vcpus,
                instance_types=list(profile.spot_instance_types if is_spot else profile.on_demand_instance_types),
                ec2_configuration=[{"imageType": profile.image_type}],
                # A change of the hosts takes the newest image of its type with it.
                update_to_latest_image_version=True,
                instance_role=instance_profile_arn,
                launch_template=launch_template,
                subnets=subnet_ids,
                security_group_ids=[security_group_id],
                tags={
                    tags.PROJECT: tags.PROJECT_VALUE,
                    tags.ENVIRONMENT: environment.name,
                    tags.PROFILE: profile.name,
                    tags.MARKET: market,
                    **_drill_tag(market, profile, environment),
                },
            ),
            # Change in place, never replace: a queue refers to it, and jobs run in it.
            replace_compute_environment=False,
            update_policy=batch.CfnComputeEnvironment.UpdatePolicyProperty(
                job_execution_timeout_minutes=UPDATE_TIMEOUT_MINUTES, terminate_jobs_on_update=False
            ),
        )
        # From the start, because a queue without a policy can never be given one.
        shares = batch.CfnSchedulingPolicy(
            self,
            "Shares",
            fairshare_policy=batch.CfnSchedulingPolicy.FairsharePolicyProperty(
                share_decay_seconds=_FAIR_SHARE_WINDOW_SECONDS,
                share_distribution=[
                    batch.CfnSchedulingPolicy.ShareAttributesProperty(share_identifier=team, weight_factor=1)
                    for team in environment.teams
                ],
            ),
        )
        queue = batch.CfnJobQueue(
            self,
            "Queue",
            priority=1,
            scheduling_policy_arn=shares.attr_arn,
            compute_environment_order=[
                batch.CfnJobQueue.ComputeEnvironmentOrderProperty(order=1, compute_environment=hosts.ref)
            ],
            job_state_time_limit_actions=[
                _cancel(CAPACITY_REASON, environment.runnable_limit_seconds),
                *(_cancel(reason, _SHORTEST_LIMIT_SECONDS) for reason in MISCONFIGURATION_REASONS),
            ],
        )
        self.arn = queue.ref


def _drill_tag(market: Market, profile: Profile, environment: Environment) -> dict[str, str]:
    is_drilled = environment.game_day is not None and profile.name in environment.game_day.profiles
    return {tags.DRILL: tags.DRILL_VALUE} if market == "spot" and is_drilled else {}


def _cancel(reason: str, limit_seconds: int) -> batch.CfnJobQueue.JobStateTimeLimitActionProperty:
    return batch.CfnJobQueue.JobStateTimeLimitActionProperty(
        reason=reason, state="RUNNABLE", max_time_seconds=limit_seconds, action="CANCEL"
    )
