"""Drills: AWS FIS interrupts spot hosts that are tagged for it, until an alarm says that this does harm.

Opt-in by the setting `game_day`, and nothing is interrupted until a person starts an experiment. SageMaker's hosts are
not in the account, so FIS cannot reach them.
docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html#send-spot-instance-interruptions
"""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_fis as fis
from aws_cdk import aws_iam as iam
from constructs import Construct

from spotkeeper.contract import tags
from stacks.constructs.drill_roles import DrillPolicy, ExperimentRole
from stacks.constructs.weak_reference import weak
from stacks.environment_stack import EnvironmentStack
from stacks.game_day_settings import GameDay
from stacks.settings import Environment

DRILLS: Final = {
    # The rebalance recommendation goes out at once, the two-minute notice two minutes before the interruption.
    "NoticeDrill": ("PT2M", "hosts get the two-minute notice at once"),
    "RebalanceDrill": ("PT5M", "hosts get a rebalance recommendation three minutes before the two-minute notice"),
}
"""Construct id -> time before the interruption, PT2M to PT15M, and what that shows."""

STOP_ALARMS: Final = ("NoProgress", "NoticeNotHonoured", "SweeperSilent")
"""Alarms that end a drill, at most five: runs suffer, or nobody repairs. Those that fire when hosts are merely
interrupted are not among them: that is what the drill is for."""


class GameDayStack(EnvironmentStack):
    """Experiment templates, the role that FIS takes on, and the policy of those who may start one."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        game_day: GameDay,
        alarm_arns: dict[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        target_tags = {tags.ENVIRONMENT: environment.name, tags.MARKET: "spot", tags.DRILL: tags.DRILL_VALUE}
        role = ExperimentRole(self, "ExperimentRole", target_tags=target_tags)
        stops = [
            fis.CfnExperimentTemplate.ExperimentTemplateStopConditionProperty(
                source="aws:cloudwatch:alarm", value=weak(alarm_arns[name])
            )
            for name in STOP_ALARMS
        ]
        templates = [
            self._template(id_, before, words, game_day=game_day, role=role, target_tags=target_tags, stops=stops)
            for id_, (before, words) in DRILLS.items()
        ]
        DrillPolicy(self, "DrillPolicy", templates=templates)

    def _template(
        self,
        id_: str,
        before_interruption: str,
        words: str,
        *,
        game_day: GameDay,
        role: iam.Role,
        target_tags: dict[str, str],
        stops: list[fis.CfnExperimentTemplate.ExperimentTemplateStopConditionProperty],
    ) -> fis.CfnExperimentTemplate:
        template = fis.CfnExperimentTemplate(
            self,
            id_,
            description=f"Spotkeeper: interrupt {game_day.num_hosts} of the spot hosts for drills; {words}",
            role_arn=role.role_arn,
            targets={
                "spot": fis.CfnExperimentTemplate.ExperimentTemplateTargetProperty(
                    # Of all instance types of FIS only this one takes the action.
                    resource_type="aws:ec2:spot-instance",
                    selection_mode=f"COUNT({game_day.num_hosts})",
                    resource_tags=target_tags,
                    filters=[
                        fis.CfnExperimentTemplate.ExperimentTemplateTargetFilterProperty(
                            path="State.Name", values=["running"]
                        )
                    ],
                )
            },
            actions={
                "interrupt": fis.CfnExperimentTemplate.ExperimentTemplateActionProperty(
                    action_id="aws:ec2:send-spot-instance-interruptions",
                    parameters={"durationBeforeInterruption": before_interruption},
                    targets={"SpotInstances": "spot"},
                )
            },
            stop_conditions=stops,
            experiment_options=fis.CfnExperimentTemplate.ExperimentTemplateExperimentOptionsProperty(
                account_targeting="single-account",
                # A drill that hits nothing has shown nothing.
                empty_target_resolution_mode="fail",
            ),
            # No logConfiguration: FIS would need logs:PutResourcePolicy on everything, and runs write what they saw.
            tags={"Name": f"spotkeeper-{target_tags[tags.ENVIRONMENT]}-{id_}"},
        )
        cdk.CfnOutput(self, f"{id_}Id", value=template.attr_id, description=f"aws fis start-experiment: {words}")
        return template
