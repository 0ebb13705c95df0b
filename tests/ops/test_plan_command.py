import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spotkeeper.ops.cli import app

JOB = ("--work-hours", "6", "--samples", "10")
HOURLY = ("--on-demand-price", "3", "--spot-price", "1")


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def planned(*words: str) -> dict[str, Any]:
    result = spotkeeper("plan", *words, "--json")
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def recorded(path: Path, available: list[int]) -> Path:
    path.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": available}))
    return path


def test_a_plan_says_what_each_way_costs_and_whether_spot_pays() -> None:
    told = planned(*JOB, *HOURLY, "--deadline-hours", "9")
    mixed, on_demand = told["outlooks"]["mixed"], told["outlooks"]["on-demand"]

    assert set(told["outlooks"]) == {"spot", "mixed", "on-demand"}
    assert mixed["in_time_share"] == 1
    assert mixed["usd"]["p50"] <= mixed["usd"]["p90"]
    assert on_demand["usd"]["mean"] == pytest.approx(3 * 6.2, rel=0.02)
    assert told["pays"] is (mixed["usd"]["mean"] < on_demand["usd"]["mean"])
    assert told["verdict"].startswith("spot pays: ")


def test_the_same_seed_gives_the_same_plan_and_another_one_others() -> None:
    assert planned(*JOB, *HOURLY, "--seed", "1") == planned(*JOB, *HOURLY, "--seed", "1")
    assert planned(*JOB, *HOURLY, "--seed", "1")["outlooks"] != planned(*JOB, *HOURLY, "--seed", "2")["outlooks"]


def test_steps_and_their_measured_pace_are_hours() -> None:
    by_steps = ("--steps", "43200", "--steps-per-second", "2", "--samples", "10")

    assert planned(*by_steps, *HOURLY) == planned(*JOB, *HOURLY)


def test_prices_of_types_are_looked_up_and_their_pools_named() -> None:
    told = planned(*JOB, "--instance-type", "g5.xlarge", "--instance-type", "g6.xlarge")

    assert told["prices"]["on_demand_usd_per_hour"] == 0.8048
    assert "read on 2026-11-23" in told["prices"]["source"]
    pools = {one["offer"]["pool"][0] for one in told["prices"]["choice"]["pools"]}
    assert pools == {"g5.xlarge", "g6.xlarge"}


def test_the_notice_suffices_for_a_small_state_and_not_for_a_large_one() -> None:
    small, large = planned(*JOB, *HOURLY, "--state-gb", "8"), planned(*JOB, *HOURLY, "--state-gb", "80")

    assert small["notice_suffices"] is True
    assert large["notice_suffices"] is False
    # One save in flight: an upload of 80 GB at 0.4 GB/s takes 200 s.
    assert large["interval_seconds"] >= 200


def test_a_recorded_market_gives_its_own_rate_and_hazards(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json", ([1] * 20 + [0] * 3) * 40)
    told = planned(*JOB, *HOURLY, "--trace", str(trace))

    assert told["market"] == "drawn from hazards fitted on 39 stretches with spot of the trace"
    assert told["rate"]["num_events"] == 39
    assert told["rate"]["is_sufficient"] is True
    assert told["rate"]["low_per_hour"] < 39 / 130 < told["rate"]["high_per_hour"]


def test_spot_that_is_dearer_than_on_demand_is_said_not_to_pay() -> None:
    told = planned(*JOB, "--on-demand-price", "3", "--spot-price", "3.3")

    assert told["pays"] is False
    assert told["verdict"].startswith("spot does not pay: $")


def test_people_see_a_table_and_the_reasons() -> None:
    result = spotkeeper("plan", *JOB, *HOURLY, "--deadline-hours", "9")

    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["spot", "mixed", "on-demand"]
    assert "checkpoints: every 119 s" in result.stdout
    assert "the two-minute notice suffices for a whole save" in result.stdout
    assert "insufficient data: 0.5 an hour (90%: " in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kind", "serving"), "serve from on-demand"),
        (("--nodes", "4"), "a job of 4 nodes"),
        (("--nodes", "4"), "SageMaker, which does run it (`spotkeeper submit --on sagemaker --nodes`)"),
        (("--work-hours", "20", "--no-checkpoints"), "save checkpoints, or use on-demand"),
        (("--deadline-hours", "6.1"), "do not fit into a deadline of 6.1 h"),
        (("--deadline-hours", "6.3"), "leaves no time for one preemption"),
    ],
)
def test_where_spot_does_not_belong_a_plan_is_refused_unless_forced(options: tuple[str, ...], message: str) -> None:
    refused = spotkeeper("plan", *JOB, *HOURLY, *options)
    forced = spotkeeper("plan", *JOB, *HOURLY, *options, "--force")

    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "(--force plans it all the same)" in refused.stderr
    assert forced.exit_code == 0
    assert f"warning: {forced.stderr.split('warning: ')[1]}".startswith("warning: ")
    assert message in forced.stderr


def test_tight_slack_is_warned_of() -> None:
    result = spotkeeper("plan", *JOB, *HOURLY, "--deadline-hours", "6.6")

    assert result.exit_code == 0
    assert "warning: slack is 10% of the work" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*HOURLY,), "how much work is it? give --work-hours, or --steps and --steps-per-second"),
        (("--work-hours", "5", "--steps", "7", *HOURLY), "how much work is it?"),
        (
            ("--steps", "5", "--steps-per-second", "0", *HOURLY),
            "--steps-per-second must be above 0 and finite, got 0.0",
        ),
        (("--work-hours", "-1", *HOURLY), "work_hours must be above 0 and finite, got -1.0"),
        (("--work-hours", "nan", *HOURLY), "work_hours must be above 0 and finite, got nan"),
        (("--work-hours", "5", "--deadline-hours", "0", *HOURLY), "deadline_hours must be above 0 and finite, got 0.0"),
        (("--work-hours", "5"), "what does an hour cost? give --instance-type"),
        (
            ("--work-hours", "5", "--on-demand-price", "0", "--spot-price", "1"),
            "on_demand_usd_per_hour must be above 0",
        ),
        (
            ("--work-hours", "5", "--instance-type", "ml.g5.xlarge"),
            "'ml.g5.xlarge' is a type of SageMaker, and these prices are EC2's: for a plan give SageMaker's own, --on-",
        ),
        (("--work-hours", "5", "--instance-type", "p3.2xlarge"), "no price of 'p3.2xlarge' in us-east-1 is known"),
        (("--work-hours", "5", *HOURLY, "--kind", "magic"), "--kind must be one of training, sweep"),
        (("--work-hours", "5", *HOURLY, "--samples", "0"), "samples must be from 1 to 10000, got 0"),
        (("--work-hours", "5", *HOURLY, "--max-lost", "2h"), "--max-lost must be 1s to 1h, got '2h'"),
        (("--work-hours", "5", *HOURLY, "--upload", "0"), "upload_gb_per_second must be above 0 and finite, got 0.0"),
        (("--work-hours", "5", *HOURLY, "--nodes", "0"), "nodes must be at least 1, got 0"),
        (("--work-hours", "5", *HOURLY, "--trace", "nowhere.csv"), "--trace 'nowhere.csv' cannot be read"),
    ],
)
def test_what_no_job_can_be_is_refused_by_name(options: tuple[str, ...], message: str) -> None:
    result = spotkeeper("plan", *options)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_calm_trace_makes_a_cheaper_plan_than_a_stormy_one(tmp_path: Path) -> None:
    calm = recorded(tmp_path / "calm.json", ([1] * 200 + [0] * 2) * 12)
    stormy = recorded(tmp_path / "stormy.json", ([1] * 2 + [0] * 20) * 100)
    usd = [
        planned(*JOB, *HOURLY, "--deadline-hours", "9", "--trace", str(trace))["outlooks"]["mixed"]["usd"]["mean"]
        for trace in (calm, stormy)
    ]

    assert usd[0] < 0.7 * usd[1]


def test_the_picture_shows_every_market(tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    result = spotkeeper("plan", *JOB, *HOURLY, "--deadline-hours", "9", "--plot", str(picture))

    assert result.exit_code == 0
    drawn = picture.read_text()
    assert drawn.count("<use ") > 20  # Ten markets, two ways that always finish, and the marks of the axes.
