"""Metric data: what CloudWatch makes of log lines in the embedded metric format, and what AWS's services report.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What CloudWatch keeps, and bills, by itself."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Datum:
    """One value of a series."""

    series: Series
    at: float
    """Unix seconds."""
    value: float


def read_embedded(lines: Iterable[str]) -> list[Datum]:
    """Return the metric data in log lines; lines that hold none are passed over.

    Raises:
        ValueError: if a line announces a metric or a dimension that it does not hold.
    """
    return [datum for line in lines if '"_aws"' in line for datum in _data_of(json.loads(line))]


def _data_of(line: Mapping[str, Any]) -> list[Datum]:
    at = line["_aws"]["Timestamp"] / 1000
    found = []
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            given = _member(line, metric["Name"])
            # CloudWatch takes the values of a list one by one.
            values = given if isinstance(given, list) else [given]
            for names in directive["Dimensions"]:
                series = Series(
                    namespace=directive["Namespace"],
                    name=metric["Name"],
                    dimensions=frozenset((name, str(_member(line, name))) for name in names),
                )
                found += [Datum(series=series, at=at, value=float(value)) for value in values]
    return found


def _member(line: Mapping[str, Any], name: str) -> Any:
    if name not in line:
        raise ValueError(f"an embedded metric line announces {name!r} and does not hold it: {line}")
    return line[name]
