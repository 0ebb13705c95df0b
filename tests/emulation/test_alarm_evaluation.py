import json
from typing import Any

import pytest

from emulation.alarms.expression import compute
from emulation.alarms.metric_alarm import ALARM, INSUFFICIENT_DATA, OK, MetricAlarm
from emulation.alarms.metric_data import Datum, Series, read_embedded
from emulation.alarms.rule import holds
from emulation.alarms.watch import AlarmWatch, construct_id
from emulation.templates.deployment import Resource, UnsupportedError

SERIES = Series(namespace="Spotkeeper", name="Sweeps", dimensions=frozenset({("environment", "dev")}))
POINTS = {"0": 0.0, "X": 1.0, "-": None}


def properties(**changes: Any) -> dict[str, Any]:
    facts = {
        "Namespace": "Spotkeeper",
        "MetricName": "Sweeps",
        "Dimensions": [{"Name": "environment", "Value": "dev"}],
        "Statistic": "Sum",
        "Period": 300,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "EvaluationPeriods": 3,
        "TreatMissingData": "notBreaching",
    }
    return {**facts, **changes}


def data(*values: tuple[float, float], series: Series = SERIES) -> list[Datum]:
    return [Datum(series=series, at=at, value=value) for at, value in values]


# The tables of alarms-and-missing-data in AWS's documentation: X breaches, 0 does not, - is missing; oldest first.
@pytest.mark.parametrize(
    ("needed", "points", "ignore", "breaching", "not_breaching"),
    [
        (3, "0-X-X", OK, OK, OK),
        (3, "0----", OK, OK, OK),
        (3, "-----", "retained", ALARM, OK),
        (3, "0XX-X", ALARM, ALARM, ALARM),
        (3, "----X", "retained", ALARM, OK),
        (3, "X----", "retained", ALARM, OK),
        (2, "0-X-X", ALARM, ALARM, ALARM),
        (2, "00X0X", ALARM, ALARM, ALARM),
        (2, "0-X--", OK, ALARM, OK),
        (2, "----0", OK, ALARM, OK),
        (2, "----X", "retained", ALARM, OK),
    ],
)
def test_missing_data_is_treated_as_the_tables_of_aws_say(
    needed: int, points: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    expected = {"ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}
    read = [POINTS[letter] for letter in points]

    judged = {
        treatment: MetricAlarm.of(properties(DatapointsToAlarm=needed, TreatMissingData=treatment)).judge(
            read, before="retained"
        )
        for treatment in expected
    }

    assert judged == expected


def test_a_window_moves_with_the_clock_and_joins_what_is_in_it() -> None:
    alarm = MetricAlarm.of(properties(EvaluationPeriods=1, Threshold=2))
    two = data((1000, 1), (1200, 1))

    assert alarm.state(two, at=1200, before=OK) == ALARM
    assert alarm.state(two, at=1299, before=OK) == ALARM
    assert alarm.state(two, at=1301, before=OK) == OK, "the first has left the window"
    assert alarm.state(two, at=1199, before=OK) == OK, "the second has not come yet"


def test_only_the_alarms_own_series_counts() -> None:
    alarm = MetricAlarm.of(properties(EvaluationPeriods=1))
    of_prod = Series(namespace="Spotkeeper", name="Sweeps", dimensions=frozenset({("environment", "prod")}))

    assert alarm.state(data((1000, 5), series=of_prod), at=1000, before=OK) == OK


@pytest.mark.parametrize(
    ("statistic", "comparison", "threshold", "expected"),
    [
        ("Sum", "GreaterThanThreshold", 9, ALARM),
        ("Sum", "GreaterThanThreshold", 10, OK),
        ("Maximum", "GreaterThanOrEqualToThreshold", 7, ALARM),
        ("Maximum", "GreaterThanOrEqualToThreshold", 8, OK),
        ("Minimum", "LessThanThreshold", 4, ALARM),
        ("Minimum", "LessThanThreshold", 3, OK),
        ("Minimum", "LessThanOrEqualToThreshold", 3, ALARM),
        ("Minimum", "LessThanOrEqualToThreshold", 2, OK),
    ],
)
def test_statistics_and_comparisons(statistic: str, comparison: str, threshold: float, expected: str) -> None:
    told = properties(Statistic=statistic, ComparisonOperator=comparison, Threshold=threshold, EvaluationPeriods=1)

    assert MetricAlarm.of(told).state(data((990, 3), (995, 7)), at=1000, before=OK) == expected


@pytest.mark.parametrize(
    "changes",
    [{"Statistic": "p99"}, {"ComparisonOperator": "LessThanLowerThreshold"}, {"TreatMissingData": "missing"}],
)
def test_what_is_not_evaluated_here_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="not evaluated here"):
        MetricAlarm.of(properties(**changes))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", [1, None, 3]),
        ("a + b", [1, None, 13]),
        ("a - 100 * b", [1, None, -997]),
        ("FILL(a, 0)", [1, 0, 3]),
        ("FILL(a, 0) + b", [1, 0, 13]),
        # Nothing at all is not filled.
        ("FILL(c, 0)", [None, None, None]),
    ],
)
def test_expressions(expression: str, expected: list[float | None]) -> None:
    assert compute(expression, {"a": [1, None, 3], "b": [None, None, 10], "c": [None, None, None]}) == expected


@pytest.mark.parametrize("expression", ["MAX(a)", "IF(a > 1, a, b)", "a b", "a / b"])
def test_an_expression_that_is_more_than_a_sum_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedError, match="more than a sum"):
        compute(expression, {"a": [1], "b": [1]})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('ALARM("a")', True),
        ('ALARM("b")', False),
        ('ALARM("a") AND (ALARM("b") OR ALARM("c"))', True),
        ('ALARM("b") AND (ALARM("a") OR ALARM("c"))', False),
        ('ALARM("a") OR ALARM("c") AND ALARM("b")', True),
        ('(ALARM("a") OR ALARM("c")) AND ALARM("b")', False),
        ('NOT ALARM("b") AND OK("b")', True),
        ("INSUFFICIENT_DATA(d)", True),
    ],
)
def test_rules_of_composite_alarms(rule: str, expected: bool) -> None:
    assert holds(rule, {"a": ALARM, "b": OK, "c": ALARM, "d": INSUFFICIENT_DATA}) is expected


@pytest.mark.parametrize("rule", ['ALARM("gone")', 'ALARM("a") XOR ALARM("a")', '(ALARM("a")', ""])
def test_a_rule_that_is_not_understood_is_refused(rule: str) -> None:
    with pytest.raises(UnsupportedError, match="is not understood"):
        holds(rule, {"a": ALARM})


def embedded(**members: Any) -> str:
    directive = {
        "Namespace": "Spotkeeper",
        "Dimensions": [["environment"]],
        "Metrics": [{"Name": "Sweeps", "Unit": "Count"}],
    }
    return json.dumps({"_aws": {"Timestamp": 1_000_500, "CloudWatchMetrics": [directive]}, **members})


def test_log_lines_become_metric_data() -> None:
    lines = ["START RequestId", embedded(environment="dev", Sweeps=[1.0, 2.0], function="sweep_runs")]

    assert read_embedded(lines) == data((1000.5, 1), (1000.5, 2))


@pytest.mark.parametrize("members", [{"environment": "dev"}, {"Sweeps": 1}])
def test_a_line_that_lacks_what_it_announces_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"announces '(Sweeps|environment)' and does not hold it"):
        read_embedded([embedded(**members)])


def test_a_composite_alarm_follows_those_it_names_minute_by_minute() -> None:
    def resource(logical_id: str, type_: str, told: dict[str, Any]) -> Resource:
        return Resource(
            stack="s", logical_id=logical_id, type=f"AWS::CloudWatch::{type_}", physical_id=logical_id, properties=told
        )

    watch = AlarmWatch(
        [
            resource("Part0123ABCD", "Alarm", properties(EvaluationPeriods=1)),
            resource("Whole", "CompositeAlarm", {"AlarmRule": 'ALARM("Part0123ABCD")'}),
        ]
    )

    states = watch.states(data((1000, 1)), begin=940, end=1000 + 20 * 60)

    assert [state["Whole"] for state in states].count(ALARM) == 15, "three windows look back so far"
    assert states[-1] == {"Part": OK, "Whole": OK}
    assert construct_id("PreemptionStorm") == "PreemptionStorm"
