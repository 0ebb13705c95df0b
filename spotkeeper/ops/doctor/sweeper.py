"""Is the sweeper called, and does it finish?"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from spotkeeper.contract import metrics
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

SILENCE: Final = timedelta(minutes=15)
"""Three of the sweeper's periods, as in the alarm SweeperSilent."""


def sweeper_is_called(examined: Examined) -> Iterator[Finding]:
    """The schedule of the sweeper, and the rules that bring events, are enabled."""
    events = examined.client("events")
    for name in examined.resources("recovery", "AWS::Events::Rule").values():
        state = events.describe_rule(Name=name)["State"]
        if state == "DISABLED":
            yield Finding(
                subject=f"rule {name}",
                value=state,
                expected="ENABLED: a handler is not called otherwise",
                fix=examined.aws(f"events enable-rule --name {name}"),
            )


def sweeper_has_finished(examined: Examined) -> Iterator[Finding]:
    """A sweep has finished within the last quarter of an hour."""
    told = examined.client("cloudwatch").get_metric_statistics(
        Namespace=metrics.NAMESPACE,
        MetricName=metrics.SWEEPS,
        Dimensions=[{"Name": metrics.ENVIRONMENT_DIMENSION, "Value": examined.descriptor.environment}],
        StartTime=examined.now - SILENCE,
        EndTime=examined.now,
        Period=60,
        Statistics=["Sum"],
    )
    if not sum(point["Sum"] for point in told["Datapoints"]):
        minutes = int(SILENCE.total_seconds() // 60)
        yield Finding(
            subject="heartbeat of the sweeper",
            value=f"none within {minutes} minutes",
            expected="one every 5 minutes: waits do not end and leases run out otherwise",
            fix="read the log of the function SweepRuns: "
            + examined.aws(f"logs tail {_log_group(examined)} --since {minutes}m"),
        )


def _log_group(examined: Examined) -> str:
    groups = examined.resources("recovery", "AWS::Logs::LogGroup")
    return next((name for id_, name in groups.items() if id_.startswith("SweepRuns")), "LOG_GROUP")
