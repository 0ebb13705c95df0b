import json

import pytest

from spotkeeper.contract.embedded_metric import format_metric
from spotkeeper.contract.metrics import CHECKPOINT_AGE, SWEEPS


def test_a_line_has_the_form_that_cloudwatch_takes_metrics_from() -> None:
    line = format_metric(CHECKPOINT_AGE, 61.5, environment="prod", at_milliseconds=1_700_000_000_000, run="digits-7fq2")

    assert "\n" not in line
    assert json.loads(line) == {
        "_aws": {
            "Timestamp": 1_700_000_000_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Spotkeeper",
                    "Dimensions": [["environment"]],
                    "Metrics": [{"Name": "CheckpointAge", "Unit": "Seconds"}],
                }
            ],
        },
        "environment": "prod",
        "CheckpointAge": 61.5,
        "run": "digits-7fq2",
    }


def test_a_metric_without_a_unit_of_its_own_is_a_count() -> None:
    line = json.loads(format_metric(SWEEPS, 1, environment="dev", at_milliseconds=0))

    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "Sweeps", "Unit": "Count"}]


def test_what_json_has_no_number_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_metric(CHECKPOINT_AGE, float("inf"), environment="dev", at_milliseconds=0)
