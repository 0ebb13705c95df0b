"""One metric alarm, as the template defines it and as CloudWatch documents its evaluation.

    points     the metric's statistic in each period, counted back from now: CloudWatch moves the window every minute
    range      more points than the alarm evaluates; how many is not documented but for an example, 5 for 3
    missing    the newest points that exist are evaluated; only if they are too few, the rest is filled in

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from emulation.alarms.expression import Points, compute
from emulation.alarms.metric_data import Datum, Series
from emulation.templates.deployment import UnsupportedError

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT_DATA: Final = "INSUFFICIENT_DATA"

_MORE_POINTS: Final = 2
_STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"Sum": sum, "Maximum": max, "Minimum": min}
_BREACHES: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
_TREATMENTS: Final = ("breaching", "notBreaching", "ignore")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One metric that an alarm reads."""

    series: Series
    statistic: str
    period_seconds: int

    def points(self, data: Iterable[Datum], at: float, count: int) -> Points:
        """Return the statistic of each of `count` periods before a time, oldest first."""
        values: list[list[float]] = [[] for _ in range(count)]
        for datum in data:
            age = int((at - datum.at) // self.period_seconds)
            if datum.series == self.series and 0 <= age < count:
                values[count - 1 - age].append(datum.value)
        return [_STATISTICS[self.statistic](found) if found else None for found in values]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricAlarm:
    """An alarm on one metric or on one expression."""

    queries: Mapping[str, Query]
    """By the id that the expression uses."""
    expression: str
    threshold: float
    comparison: str
    evaluation_periods: int
    datapoints_to_alarm: int
    treatment: str
    """Of missing data."""

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Self:
        """Read the properties of an `AWS::CloudWatch::Alarm`, with references resolved.

        Raises:
            UnsupportedError: if it uses what is not evaluated here.
        """
        queries, expression = _read_metrics(properties)
        treatment = properties.get("TreatMissingData", "missing")
        unsupported = {
            "statistics": [query.statistic for query in queries.values() if query.statistic not in _STATISTICS],
            "comparison": [name for name in [properties["ComparisonOperator"]] if name not in _BREACHES],
            "treatment of missing data": [name for name in [treatment] if name not in _TREATMENTS],
        }
        if any(unsupported.values()):
            raise UnsupportedError(f"an alarm uses what is not evaluated here: {unsupported}")
        return cls(
            queries=queries,
            expression=expression,
            threshold=properties["Threshold"],
            comparison=properties["ComparisonOperator"],
            evaluation_periods=properties["EvaluationPeriods"],
            datapoints_to_alarm=properties.get("DatapointsToAlarm", properties["EvaluationPeriods"]),
            treatment=treatment,
        )

    @property
    def all_series(self) -> frozenset[Series]:
        """What its state follows from."""
        return frozenset(query.series for query in self.queries.values())

    def state(self, data: Sequence[Datum], *, at: float, before: str) -> str:
        """Return the alarm's state at a time (Unix seconds), given that of a minute before."""
        count = self.evaluation_periods + _MORE_POINTS
        points = {id_: query.points(data, at, count) for id_, query in self.queries.items()}
        return self.judge(compute(self.expression, points), before=before)

    def judge(self, points: Points, *, before: str) -> str:
        """Return the state for these points of the evaluation range, oldest first."""
        breaches = _BREACHES[self.comparison]
        known = [breaches(point, self.threshold) for point in points if point is not None]
        evaluated = known[-self.evaluation_periods :]
        num_missing = self.evaluation_periods - len(evaluated)
        num_breaching = sum(evaluated) + (num_missing if self.treatment == "breaching" else 0)
        if num_breaching >= self.datapoints_to_alarm:
            return ALARM
        is_undecided = num_missing > 0 and all(evaluated)
        return before if self.treatment == "ignore" and is_undecided else OK


def _read_metrics(properties: Mapping[str, Any]) -> tuple[dict[str, Query], str]:
    if "MetricName" in properties:
        series = _series(properties)
        query = Query(series=series, statistic=properties["Statistic"], period_seconds=properties["Period"])
        return {"m": query}, "m"
    queries: dict[str, Query] = {}
    expressions: list[str] = []
    for item in properties["Metrics"]:
        if "Expression" in item:
            expressions.append(item["Expression"])
        else:
            told = item["MetricStat"]
            queries[item["Id"]] = Query(
                series=_series(told["Metric"]), statistic=told["Stat"], period_seconds=told["Period"]
            )
    if len(expressions) != 1:
        raise UnsupportedError(f"an alarm has {len(expressions)} expressions, and one is evaluated here: {expressions}")
    return queries, expressions[0]


def _series(metric: Mapping[str, Any]) -> Series:
    return Series(
        namespace=metric["Namespace"],
        name=metric["MetricName"],
        dimensions=frozenset((item["Name"], item["Value"]) for item in metric.get("Dimensions", ())),
    )
