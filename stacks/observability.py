"""What an environment says of itself: one dashboard, and alarms that each name their runbook.

    alarm               reads                                       when there is no data
    DeadLetters         messages in the dead-letter queues          good: SQS is silent about a queue that nobody uses
    HandlerErrors       failures that functions report and count    good: nothing was invoked
    SweeperSilent       the sweeper's heartbeat                     bad: that is what it watches
    SweeperRepairing    what a sweep repaired                       good: zeros are not sent
    CheckpointStale     work that would be lost                     no change: it was not measured
    MirrorStopped       by how much a mirror is late                good: zeros are not sent
    SpotCapacityDry     runs that wait beyond the limit             no change
    BudgetHeadroom      what is left of caps                        no change
    NoProgress          runs that are parked, or nearly             no change
    NoticeNotHonoured   warned attempts that saved nothing          good: zeros are not sent
    PreemptionStorm     HostsLost, and that runs suffer from it     -

An alarm that goes quiet because the sweeper, which measures, has died would say that all is well; so those keep their
state, and SweeperSilent speaks. In expressions, missing values count as 0 in sums; FILL writes the zeros that are not
sent, because an alarm otherwise looks back for older values.
docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from typing import Any, Final, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sqs as sqs
from constructs import Construct, IConstruct

from spotkeeper.contract import metrics
from spotkeeper.contract.alarms import runbook
from stacks.alarm_settings import PERIOD_MINUTES
from stacks.constructs.alarm_topic import AlarmTopic
from stacks.constructs.event_function import EventFunction
from stacks.constructs.weak_reference import weak
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment

_PERIOD: Final = cdk.Duration.minutes(PERIOD_MINUTES)
_QUARTER: Final = cdk.Duration.minutes(15)
_AT_LEAST: Final = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
_GOOD: Final = cloudwatch.TreatMissingData.NOT_BREACHING
_BAD: Final = cloudwatch.TreatMissingData.BREACHING
_NO_CHANGE: Final = cloudwatch.TreatMissingData.IGNORE


class ObservabilityStack(EnvironmentStack):
    """Topic, alarms and dashboard of an environment."""

    alarm_arns: dict[str, str]
    """Of every alarm but the composite one, by its name."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        functions: tuple[EventFunction, ...],
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        self._environment = environment
        self.alarm_arns = {}
        self._topic = AlarmTopic(self, "Alarms", settings=environment.alarms).topic
        names = [(unit.node.id, weak(_resource(unit.function).ref)) for unit in functions]
        self._errors = {id_: _of_function("Errors", name, "Sum") for id_, name in names}
        self._durations = {id_: _of_function("Duration", name, "Maximum") for id_, name in names}
        self._dead_letters = {unit.node.id: _visible(weak(_queue_name(unit.dead_letters))) for unit in functions}
        told = (
            self._dead_letter_alarm(),
            self._handler_errors_alarm(),
            *self._sweeper_alarms(),
            self._checkpoint_alarm(),
            self._mirror_alarm(),
            self._budget_alarm(),
        )
        storm = self._storm_alarms()
        self._add_dashboard([*told, *storm])

    def _dead_letter_alarm(self) -> cloudwatch.Alarm:
        return self._alarm(
            "DeadLetters",
            _sum(self._dead_letters),
            threshold=1,
            missing=_GOOD,
            words="At least 1 message lies in a dead-letter queue: an event that was not handled and will not be.",
        )

    def _handler_errors_alarm(self) -> cloudwatch.Alarm:
        minutes = self._environment.alarms.handlers_failing_minutes
        counted = {
            "EventsFailed": self._metric(metrics.EVENTS_FAILED, "Sum"),
            "SweepFailures": self._metric(metrics.SWEEP_FAILURES, "Sum"),
        }
        return self._alarm(
            "HandlerErrors",
            _sum({**self._errors, **counted}),
            threshold=1,
            periods=minutes // PERIOD_MINUTES,
            missing=_GOOD,
            words=f"In every {PERIOD_MINUTES} minutes of the last {minutes}, at least 1 function failed, message was "
            "left in its queue, or run could not be reconciled.",
        )

    def _sweeper_alarms(self) -> tuple[cloudwatch.Alarm, ...]:
        alarms, minutes = self._environment.alarms, self._environment.alarms.sweeper_silent_minutes
        silent = self._alarm(
            "SweeperSilent",
            _filled(self._metric(metrics.SWEEPS, "Sum")),
            threshold=1,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            periods=minutes // PERIOD_MINUTES,
            missing=_BAD,
            words=f"No sweep has finished for {minutes} minutes: lost events stay lost, waits do not end, leases of "
            "spot jobs run out, and nothing is measured.",
        )
        repairing = self._alarm(
            "SweeperRepairing",
            _filled(self._metric(metrics.SWEEP_REPAIRS, "Sum", period=_QUARTER)),
            threshold=alarms.sweep_repairs,
            periods=2,
            missing=_GOOD,
            words=f"In each of two quarters of an hour, the sweeper brought at least {alarms.sweep_repairs} runs where "
            "an event should have: events are lost, or come late.",
        )
        return silent, repairing

    def _checkpoint_alarm(self) -> cloudwatch.Alarm:
        minutes = self._environment.alarms.checkpoint_stale_minutes
        return self._alarm(
            "CheckpointStale",
            self._metric(metrics.CHECKPOINT_AGE, "Maximum"),
            threshold=minutes * 60,
            missing=_NO_CHANGE,
            words=f"A running attempt that saves has not committed a checkpoint for {minutes * 60} seconds or more: so "
            "much work is lost if its machine goes.",
        )

    def _mirror_alarm(self) -> cloudwatch.Alarm:
        minutes = self._environment.alarms.mirror_stopped_minutes
        return self._alarm(
            "MirrorStopped",
            _filled(self._metric(metrics.MIRROR_DELAY, "Maximum")),
            threshold=minutes * 60,
            missing=_GOOD,
            words=f"The mirror of a run's checkpoint folder is {minutes * 60} seconds late or more: what the run saves "
            "does not leave its machine.",
        )

    def _budget_alarm(self) -> cloudwatch.Alarm:
        percent = self._environment.alarms.budget_left_percent
        left, over = self._metric(metrics.BUDGET_LEFT, "Minimum"), self._metric(metrics.RUNS_OVER_OWN_CAP, "Maximum")
        return self._alarm(
            "BudgetHeadroom",
            # A run over its own cap brings it below any threshold.
            _expression("left - 100 * over", {"left": left, "over": over}),
            threshold=percent,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_OR_EQUAL_TO_THRESHOLD,
            missing=_NO_CHANGE,
            words=f"At most {percent} percent are left of a cap of the month, of the environment or a team, or a "
            "deadline-first run has crossed its own cap.",
        )

    def _storm_alarms(self) -> tuple[cloudwatch.IAlarm, ...]:
        alarms = self._environment.alarms
        dry = self._alarm(
            "SpotCapacityDry",
            self._metric(metrics.WAITS_OVER_LIMIT, "Maximum"),
            threshold=1,
            periods=alarms.spot_dry_minutes // PERIOD_MINUTES,
            missing=_NO_CHANGE,
            words=f"For {alarms.spot_dry_minutes} minutes, at least 1 run has waited for spot capacity longer than "
            f"{self._environment.fallback_after_seconds} seconds, and its queue was given no machine.",
        )
        no_progress = self._alarm(
            "NoProgress",
            self._metric(metrics.RUNS_WITHOUT_PROGRESS, "Maximum"),
            threshold=1,
            missing=_NO_CHANGE,
            words="At least 1 run is parked, or will be if its next submission brings no newer checkpoint either.",
        )
        not_honoured = self._alarm(
            "NoticeNotHonoured",
            _filled(self._metric(metrics.NOTICES_NOT_HONOURED, "Maximum")),
            threshold=1,
            missing=_GOOD,
            words="At least 1 attempt that saves was warned before its host was taken, and committed no checkpoint "
            "since 2 minutes before that.",
        )
        hosts_lost = cloudwatch.Alarm(
            self,
            "HostsLost",
            metric=_filled(self._metric(metrics.HOSTS_LOST, "Maximum")),
            threshold=alarms.storm_hosts_lost,
            comparison_operator=_AT_LEAST,
            evaluation_periods=1,
            treat_missing_data=_GOOD,
            alarm_description=f"Tells nobody: a part of PreemptionStorm. Attempts lost at least "
            f"{alarms.storm_hosts_lost} hosts within 15 minutes. Runbook: {runbook('PreemptionStorm')}",
        )
        stalled = cloudwatch.Alarm(
            self,
            "RunsStalled",
            metric=_filled(self._metric(metrics.RUNS_STALLED_BY_LOSSES, "Maximum")),
            threshold=1,
            comparison_operator=_AT_LEAST,
            evaluation_periods=1,
            treat_missing_data=_GOOD,
            alarm_description="Tells nobody: a part of PreemptionStorm. At least 1 run that lost a host within 15 "
            f"minutes has brought no newer checkpoint in two submissions. Runbook: {runbook('PreemptionStorm')}",
        )
        # A run that is parked for another reason suffers from no storm.
        harm = " OR ".join(f'ALARM("{alarm.alarm_arn}")' for alarm in (dry, not_honoured, stalled))
        storm = cloudwatch.CfnCompositeAlarm(
            self,
            "PreemptionStorm",
            # Many interruptions alone are what Spotkeeper is for, and nothing for a person to do.
            alarm_rule=f'ALARM("{hosts_lost.alarm_arn}") AND ({harm})',
            alarm_description=f"Attempts lost at least {alarms.storm_hosts_lost} hosts within 15 minutes, and "
            "SpotCapacityDry, NoticeNotHonoured or RunsStalled says that runs suffer from it. "
            f"Runbook: {runbook('PreemptionStorm')}",
            alarm_actions=[self._topic.topic_arn],
            ok_actions=[self._topic.topic_arn],
        )
        shown = cloudwatch.Alarm.from_alarm_arn(self, "PreemptionStormShown", storm.attr_arn)
        return dry, no_progress, not_honoured, shown

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        *,
        threshold: float,
        missing: cloudwatch.TreatMissingData,
        words: str,
        comparison: cloudwatch.ComparisonOperator = _AT_LEAST,
        periods: int = 1,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=periods,
            datapoints_to_alarm=periods,
            treat_missing_data=missing,
            alarm_description=f"{words} Runbook: {runbook(name)}",
        )
        action = actions.SnsAction(self._topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)
        self.alarm_arns[name] = cast("cloudwatch.CfnAlarm", alarm.node.default_child).attr_arn
        return alarm

    def _metric(self, name: str, statistic: str, *, period: cdk.Duration = _PERIOD) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=metrics.NAMESPACE,
            metric_name=name,
            dimensions_map={metrics.ENVIRONMENT_DIMENSION: self._environment.name},
            statistic=statistic,
            period=period,
        )

    def _add_dashboard(self, alarms: list[cloudwatch.IAlarm]) -> None:
        def graph(title: str, *shown: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(title=title, left=list(shown), width=8, height=6)

        def sums(*names: str) -> list[cloudwatch.IMetric]:
            return [self._metric(name, "Sum") for name in names]

        def most(*names: str) -> list[cloudwatch.IMetric]:
            return [self._metric(name, "Maximum") for name in names]

        dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=cdk.Duration.days(1))
        dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", alarms=alarms, width=24, height=3))
        dashboard.add_widgets(
            graph("Runs", *sums(metrics.RUNS_CLOSED, metrics.RUNS_REQUEUED, metrics.RUNS_PARKED, metrics.FALLBACKS)),
            graph("Work at risk (seconds)", *most(metrics.CHECKPOINT_AGE, metrics.MIRROR_DELAY)),
            graph("Runs that need a person", *most(metrics.RUNS_WITHOUT_PROGRESS, metrics.RUNS_OVER_OWN_CAP)),
        )
        dashboard.add_widgets(
            graph(
                "Spot",
                *most(metrics.HOSTS_LOST, metrics.NOTICES_NOT_HONOURED, metrics.WAITS_OVER_LIMIT),
                *sums(metrics.QUEUES_BLOCKED, metrics.INTERRUPTION_WARNINGS),
            ),
            graph("Left of the month's caps (percent)", self._metric(metrics.BUDGET_LEFT, "Minimum")),
            graph("Sweeper", *sums(metrics.SWEEPS, metrics.SWEEP_REPAIRS, metrics.SWEEP_FAILURES)),
        )
        spot, on_demand, equivalent, saved = paid = sums(
            metrics.SPOT_DOLLARS,
            metrics.ON_DEMAND_DOLLARS,
            metrics.ON_DEMAND_EQUIVALENT_DOLLARS,
            metrics.SAVED_DOLLARS,
        )
        parts = {"spot": spot, "demand": on_demand, "equivalent": equivalent, "saved": saved}
        dashboard.add_widgets(
            graph("Runs that ended (dollars)", *paid),
            graph(
                "Savings against the same machine time on demand (percent)",
                _percent("Actual", "100 * saved / equivalent", parts, "saved", "equivalent"),
                # As if the fallback had been spot too, at the price of the rest.
                _percent(
                    "Theoretical", "100 * (1 - spot / (equivalent - demand))", parts, "spot", "equivalent", "demand"
                ),
            ),
        )
        dashboard.add_widgets(
            graph("Function errors", *self._errors.values(), *sums(metrics.EVENTS_FAILED)),
            graph("Longest invocations (milliseconds)", *self._durations.values()),
            graph("Dead letters", *self._dead_letters.values()),
        )


def _resource(construct: IConstruct) -> cdk.CfnResource:
    return cast("cdk.CfnResource", construct.node.default_child)


def _queue_name(queue: sqs.Queue) -> str:
    return cast("sqs.CfnQueue", queue.node.default_child).attr_queue_name


def _of_function(name: str, function_name: str, statistic: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/Lambda",
        metric_name=name,
        dimensions_map={"FunctionName": function_name},
        statistic=statistic,
        period=_PERIOD,
    )


def _visible(queue_name: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/SQS",
        metric_name="ApproximateNumberOfMessagesVisible",
        dimensions_map={"QueueName": queue_name},
        statistic="Maximum",
        period=_PERIOD,
    )


def _filled(metric: cloudwatch.Metric) -> cloudwatch.MathExpression:
    return _expression("FILL(m, 0)", {"m": metric}, period=metric.period)


def _sum(parts: dict[str, cloudwatch.Metric]) -> cloudwatch.MathExpression:
    by_id = {f"m{number}": metric for number, metric in enumerate(parts.values())}
    return _expression(" + ".join(by_id), by_id)


def _percent(label: str, text: str, parts: dict[str, cloudwatch.IMetric], *names: str) -> cloudwatch.MathExpression:
    """Return a share over a day: runs end too seldom for a line of five minutes."""
    day = cdk.Duration.days(1)
    return cloudwatch.MathExpression(
        expression=text, using_metrics={name: parts[name] for name in names}, period=day, label=label
    )


def _expression(
    text: str, parts: dict[str, cloudwatch.Metric], *, period: cdk.Duration = _PERIOD
) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=text, using_metrics=dict(parts), period=period)
