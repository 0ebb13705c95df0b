"""All alarms of an environment over a stretch of time, minute by minute as CloudWatch evaluates them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from emulation.alarms import rule
from emulation.alarms.metric_alarm import ALARM, INSUFFICIENT_DATA, OK, MetricAlarm
from emulation.alarms.metric_data import Datum, Series
from emulation.templates.deployment import Resource

STEP_SECONDS: Final = 60

_HASH: Final = re.compile(r"[0-9A-F]{8}$")


class AlarmWatch:
    """The alarms of synthesized templates.

    Args:
        resources: Of a deployment; those that are no alarms are passed over.

    Raises:
        UnsupportedError: if an alarm uses what is not evaluated here.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        alarms = [resource for resource in resources if resource.type.startswith("AWS::CloudWatch::")]
        self._metric_alarms = {
            resource.physical_id: MetricAlarm.of(resource.properties)
            for resource in alarms
            if resource.type == "AWS::CloudWatch::Alarm"
        }
        self._rules = {
            resource.physical_id: str(resource.properties["AlarmRule"])
            for resource in alarms
            if resource.type == "AWS::CloudWatch::CompositeAlarm"
        }
        self._names = {resource.physical_id: construct_id(resource.logical_id) for resource in alarms}

    def fired(self, data: Sequence[Datum], *, begin: float, end: float) -> set[str]:
        """Return the construct ids of the alarms that were in ALARM at some minute between two Unix times."""
        return {name for states in self.states(data, begin=begin, end=end) for name in states if states[name] == ALARM}

    def states(self, data: Sequence[Datum], *, begin: float, end: float) -> list[dict[str, str]]:
        """Return each alarm's state by construct id, at each minute after `begin` until `end`.

        They begin with INSUFFICIENT_DATA, as every alarm does.
        """
        states = dict.fromkeys((*self._metric_alarms, *self._rules), INSUFFICIENT_DATA)
        # Sought once, not once a minute: data of hours are many, and most are none of an alarm's.
        by_series: dict[Series, list[Datum]] = defaultdict(list)
        for datum in data:
            by_series[datum.series].append(datum)
        read = {
            arn: [datum for series in alarm.all_series for datum in by_series[series]]
            for arn, alarm in self._metric_alarms.items()
        }
        minutes = []
        for minute in range(1, int((end - begin) // STEP_SECONDS) + 1):
            at = begin + minute * STEP_SECONDS
            for arn, alarm in self._metric_alarms.items():
                states[arn] = alarm.state(read[arn], at=at, before=states[arn])
            for arn, text in self._rules.items():
                states[arn] = ALARM if rule.holds(text, states) else OK
            minutes.append({self._names[arn]: state for arn, state in states.items()})
        return minutes


def construct_id(logical_id: str) -> str:
    """Return the construct's id of a resource directly under its stack: CDK appends eight digits to most."""
    return _HASH.sub("", logical_id)
