"""The figures of docs/placement.md are those of the newest result of `python -m benchmarks.policy`."""

import json
from pathlib import Path
from typing import Any

from spotkeeper.policy.placement import FITTED
from spotkeeper.policy.spot_cycles import thresholds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "placement.md").read_text()


def newest() -> dict[str, Any]:
    results = sorted((ROOT / "benchmarks" / "results").glob("policy-*.json"))
    found: dict[str, Any] = json.loads(results[-1].read_text())
    return found


def test_the_page_tells_the_dollars_of_the_published_set() -> None:
    for name, value in newest()["adrs"].items():
        told = f"{value:.2f}" if name.endswith("_usd") else f"{value:.0f}"
        assert f"| {told} |" in PAGE, f"{name} is {told}"


def test_the_page_tells_the_lead_over_uniform_progress_and_the_gap_closed() -> None:
    result = newest()
    for changeover, lead in result["above_uniform_progress_points"].items():
        closed = result["gap_closed_share"][changeover]
        assert f"| {changeover} | {lead['mean']:+.2f} | {lead['worst']:+.2f} | {100 * closed:.0f} % |" in PAGE


def test_the_page_tells_what_the_same_rules_reach_if_they_are_told_the_spells() -> None:
    result = newest()
    below = result["cells_below_uniform_progress"]
    for name, shares in (("", result["gap_closed_share"]), ("_foretold", result["gap_closed_share_foretold"])):
        closed = " / ".join(f"{100 * share:.0f}" for share in shares.values())
        assert f"| {closed} % | {below['spotkeeper' + name]} of {below['cells']} |" in PAGE


def test_the_page_tells_how_uncertain_a_cell_is() -> None:
    more = newest()["above_uniform_progress_with_more_jobs"]
    told = " ".join(PAGE.split())
    assert f"differ by {more['standard_deviation_of_a_job_points']:.1f} points" in told
    assert f"With {more['jobs_in_a_cell']} other jobs in each cell" in told
    assert f"{more['cells_below']} of {more['cells']} are below" in told
    assert f"the worst by {-more['worst_points']:.2f}; the mean lead is {more['mean_points']:+.2f}" in told


def test_no_deadline_was_missed_and_no_cap_crossed() -> None:
    result = newest()
    assert result["adrs"]["deadline_misses"] == 0
    assert sum(cell["misses"] for cell in result["cells"]) == 0
    assert result["budget_overshoot_usd"] == 0


def test_the_harness_reproduces_what_is_published() -> None:
    published = {"greedy_usd": 119.0345, "uniform_progress_usd": 101.6827, "optimum_usd": 92.1617}
    found = newest()["adrs"]
    assert {name: found[name] for name in published} == published


def test_the_page_tells_the_waits_and_gates_that_are_shipped() -> None:
    found = thresholds(
        lifetime=FITTED.lifetime,
        outage=FITTED.outage,
        changeover_hours=0.2,
        price_ratio=3.0,
        horizon_hours=FITTED.horizon_hours,
    )
    shares = (0.02, 0.05, 0.1, 0.2, 0.4)
    assert f"| slack share | {' | '.join(f'{share:g}' for share in shares)} |" in PAGE
    assert f"| wait, hours | {' | '.join(f'{found.wait_hours(share):.2f}' for share in shares)} |" in PAGE
    assert f"| gate, hours | {' | '.join(f'{found.gate_hours(share):.2f}' for share in shares)} |" in PAGE


def test_the_page_tells_how_a_run_in_any_zone_compares_with_the_best_one() -> None:
    for changeover, found in newest()["any_zone_above_best_single_zone"].items():
        assert f"| {changeover} | {found['mean_points']:+.2f} | {found['worst_points']:+.2f} |" in PAGE
        assert found["misses"] == 0
