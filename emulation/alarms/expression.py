"""The part of CloudWatch's metric math that the alarms use: sums of metrics, times a number, perhaps filled.

A value that is missing counts as 0 in a sum, as long as another term has one.
docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from emulation.templates.deployment import UnsupportedError

Points = Sequence[float | None]
"""One value a period, oldest first; None: there is no data."""

_TERM: Final = re.compile(
    r"\s*(?P<sign>[+-]?)\s*(?:(?P<factor>\d+(?:\.\d+)?)\s*\*\s*)?"
    r"(?:FILL\(\s*(?P<filled>[a-z]\w*)\s*,\s*(?P<filler>-?\d+(?:\.\d+)?)\s*\)|(?P<plain>[a-z]\w*))\s*"
)


def compute(expression: str, metrics: Mapping[str, Points]) -> list[float | None]:
    """Return the points of an expression over metrics by id.

    Raises:
        UnsupportedError: if it is more than a sum of terms such as `m`, `100 * m`, `FILL(m, 0)`.
    """
    terms: list[list[float | None]] = []
    position = 0
    while position < len(expression):
        match = _TERM.match(expression, position)
        if match is None or (position > 0) != bool(match["sign"]):
            raise UnsupportedError(f"the alarm expression {expression!r} is more than a sum: teach {__name__}")
        factor = float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        points = metrics[match["filled"] or match["plain"]]
        if match["filled"]:
            points = _filled(points, float(match["filler"]))
        terms.append([None if point is None else factor * point for point in points])
        position = match.end()
    return [_sum(values) for values in zip(*terms, strict=True)]


def _filled(points: Points, filler: float) -> Points:
    # Whether CloudWatch fills a metric of which it has nothing at all is not documented: assume that it does not.
    if all(point is None for point in points):
        return points
    return [filler if point is None else point for point in points]


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
