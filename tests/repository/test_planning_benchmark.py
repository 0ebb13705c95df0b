"""The figures of docs/planning.md are those of the newest result of `python -m benchmarks.planning`."""

import json
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "planning.md").read_text()
RESULT = json.loads(sorted((ROOT / "benchmarks" / "results").glob("planning-*.json"))[-1].read_text())


def test_the_page_tells_how_far_plans_are_off() -> None:
    without = fmean(cell["error"] for cell in RESULT["cells"] if cell["series"] != "us-east-2a")
    for error in (RESULT["mean_absolute_error"], without, RESULT["mean_absolute_error_with_foreknown_hazards"]):
        assert f"| {100 * error:.1f} % |" in PAGE


def test_the_page_tells_how_often_the_90th_percentile_was_enough() -> None:
    assert f"cost no more than the plan's p90 | {100 * RESULT['p90_covers']:.1f} % |" in PAGE
