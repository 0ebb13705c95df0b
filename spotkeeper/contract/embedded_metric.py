"""Metrics in log lines: CloudWatch Logs takes them out by itself, and the program that writes them needs no permission.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
from typing import Any

from spotkeeper.contract.metrics import ENVIRONMENT_DIMENSION, NAMESPACE, UNITS


def format_metric(name: str, value: float, *, environment: str, at_milliseconds: int, **fields: Any) -> str:
    """Return the line, without a newline, that gives one metric of an environment a value.

    Args:
        name: Of `contract.metrics`, whose unit it has.
        value: Finite.
        environment: The only dimension, as of every metric here.
        at_milliseconds: Since 1970, UTC.
        fields: What else the line tells, such as the run; CloudWatch makes no metric of it, and bills none.
    """
    declared = {
        "Namespace": NAMESPACE,
        "Dimensions": [[ENVIRONMENT_DIMENSION]],
        "Metrics": [{"Name": name, "Unit": UNITS.get(name, "Count")}],
    }
    document = {
        "_aws": {"Timestamp": at_milliseconds, "CloudWatchMetrics": [declared]},
        ENVIRONMENT_DIMENSION: environment,
        name: value,
        **fields,
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
