import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spotkeeper.ops.cli import app
from spotkeeper.policy.market import Mode
from spotkeeper.policy.replay import replay

MARKET = [1] * 30 + [0] * 20 + [1] * 10 + [0] * 60 + [1] * 180
"""Ticks of ten minutes: fifty hours."""


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "market.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": MARKET}))
    return path


def of_csv(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("time", "available")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


JOB = ("--work-hours", "20", "--deadline-hours", "30", "--changeover-hours", "0.2")


def test_json_is_the_shipped_policys_replay_with_what_others_would_have_cost(trace: Path) -> None:
    result = spotkeeper("replay", "--trace", str(trace), *JOB, "--on-demand-price", "3", "--spot-price", "1", "--json")
    told = json.loads(result.stdout)

    expected = replay(
        MARKET,
        1.0,
        on_demand_usd_per_hour=3.0,
        gap_seconds=600,
        work_hours=20,
        deadline_hours=30,
        changeover_hours=0.2,
        mode=Mode.DEADLINE_FIRST,
    )
    assert told["usd"] == expected.usd
    assert [one["place"] for one in told["segments"]] == [one.place for one in expected.segments]
    assert set(told["baselines"]) == {"on-demand", "greedy", "uniform progress"}
    # Twenty hours of work and a changeover of 0.2 h, in ticks of ten minutes.
    assert told["baselines"]["on-demand"]["usd"] == pytest.approx(3 * 122 / 6)
    assert told["trace"]["available_share"] == sum(MARKET) / len(MARKET)
    assert not told["trace"]["preemption_rate"]["is_sufficient"]


def test_people_see_costs_side_by_side_and_why_each_move_was_made(trace: Path) -> None:
    result = spotkeeper("replay", "--trace", str(trace), *JOB)

    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["spotkeeper", "on-demand", "greedy", "uniform"]
    assert all(line.endswith("kept") for line in (line.rstrip() for line in lines[1:5]))
    assert "spot is there" in result.stdout
    assert "insufficient data: " in lines[-1]


def test_prices_of_a_csv_are_those_that_are_paid(tmp_path: Path) -> None:
    rows = [(60 * tick, 1, 0.5 if tick < 60 else 1.5) for tick in range(121)]
    path = of_csv(tmp_path / "t.csv", rows, ("time", "available", "spot_price"))
    result = spotkeeper("replay", "--trace", str(path), "--work-hours", "2", "--changeover-hours", "0", "--json")

    assert json.loads(result.stdout)["usd"] == pytest.approx(2.0)


def test_times_may_jitter_as_the_rounds_of_a_probe_do(tmp_path: Path) -> None:
    path = of_csv(tmp_path / "t.csv", [(195 * tick + tick % 3, 1) for tick in range(200)])
    result = spotkeeper("replay", "--trace", str(path), "--work-hours", "2", "--gap-seconds", "195", "--json")

    assert json.loads(result.stdout)["trace"]["gap_seconds"] == 195


def test_a_trace_without_times_needs_the_length_of_its_ticks(tmp_path: Path) -> None:
    bare, column = tmp_path / "t.json", of_csv(tmp_path / "t.csv", [(one,) for one in MARKET], ("available",))
    bare.write_text(json.dumps(MARKET))
    for path in (bare, column):
        refused = spotkeeper("replay", "--trace", str(path), "--work-hours", "2")
        told = spotkeeper("replay", "--trace", str(path), "--work-hours", "2", "--gap-seconds", "600", "--json")

        assert refused.exit_code == 2
        assert f"{path}, line 1: expected" in refused.stderr
        assert json.loads(told.stdout)["trace"]["ticks"] == len(MARKET)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 1), (60, 1), (120, 0), (300, 1), (360, 1)], "line 5: a hole: 180 s after the line before"),
        ([(0, 1), (60, 1), (120, 0), (130, 1), (190, 1)], "line 5: too close: 10 s after the line before"),
        ([(0, 1), (60, 1), (60, 0)], "line 4: times must rise from line to line; got '60'"),
        ([(60, 1), (0, 1)], "line 3: times must rise from line to line; got '0'"),
        ([(0, 1), ("nan", 1)], "line 3: expected the columns"),
        ([(0, 1), (60, 7)], "'available': '7'"),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_value(tmp_path: Path, rows: list[tuple[Any, ...]], message: str) -> None:
    path = of_csv(tmp_path / "t.csv", rows)
    result = spotkeeper("replay", "--trace", str(path))

    assert result.exit_code == 2
    assert f"{path}, line" in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--work-hours", "0"), "work_hours must be above 0 and finite, got 0.0"),
        (("--work-hours", "nan"), "work_hours must be above 0 and finite, got nan"),
        (("--deadline-hours", "80"), "deadline_hours must be above 0 and within the trace"),
        (("--deadline-hours", "-1"), "deadline_hours must be above 0"),
        (("--start-tick", "300"), "start_tick must be from 0 to 299, the trace's last, got 300"),
        (("--on-demand-price", "-1"), "on_demand_usd_per_hour must be above 0 and finite, got -1.0"),
        (("--gap-seconds", "60"), "the trace's ticks have 600 s, not 60 s"),
        (("--mode", "cheap"), "--mode must be one of budget-first, deadline-first, got 'cheap'"),
        (("--total-cap", "1,5"), "--total-cap must be US dollars"),
        (("--plot", "out.gif"), "--plot must end in .png, .svg, .pdf, got 'out.gif'"),
    ],
)
def test_what_no_job_can_be_is_refused_by_name(trace: Path, options: tuple[str, ...], message: str) -> None:
    result = spotkeeper("replay", "--trace", str(trace), *options)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_not_there_is_refused_by_name() -> None:
    result = spotkeeper("replay", "--trace", "nowhere.csv")

    assert result.exit_code == 2
    assert result.stderr == "spotkeeper: --trace 'nowhere.csv' cannot be read: No such file or directory\n"


def test_in_budget_first_no_cap_is_crossed(trace: Path) -> None:
    result = spotkeeper("replay", "--trace", str(trace), *JOB, "--mode", "budget-first", "--total-cap", "9", "--json")
    told = json.loads(result.stdout)

    assert told["usd"] <= 9
    assert told["over_cap_usd"] == 0
    assert told["baselines"]["on-demand"]["usd"] > 9


def test_the_picture_is_drawn(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "replay.png"
    result = spotkeeper("replay", "--trace", str(trace), *JOB, "--plot", str(picture))

    assert result.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_in_a_folder_that_is_missing_is_refused_before_anything_is_computed(trace: Path) -> None:
    result = spotkeeper("replay", "--trace", str(trace), "--plot", "nowhere/replay.png")

    assert result.exit_code == 1
    assert result.stderr == "spotkeeper: --plot: there is no folder 'nowhere'\n"
    assert result.stdout == ""


def test_without_matplotlib_a_picture_is_refused_with_the_way_to_get_it(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # As where it is not installed.
    result = spotkeeper("replay", "--trace", str(trace), *JOB, "--plot", str(tmp_path / "replay.png"))

    assert result.exit_code == 1
    assert "--plot needs matplotlib" in result.stderr
    assert "pip install 'spotkeeper[plot]'" in result.stderr
    assert result.stdout == ""


def test_a_job_that_may_be_in_two_pools_goes_on_in_the_other_when_one_is_gone(trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": [0] * 30 + [1] * 90 + [0] * 180}))
    words = ("replay", "--trace", str(trace), "--trace", str(other), *JOB)

    told = json.loads(spotkeeper(*words, "--json").stdout)
    assert [(one["place"], one["pool"]) for one in told["segments"]] == [
        ("spot", "market"),
        ("spot", "other"),
        ("spot", "market"),
    ]
    assert told["on_demand_usd"] == 0
    assert told["num_preemptions"] == 2
    assert "other " in spotkeeper(*words).stdout


def test_traces_of_several_pools_that_differ_in_length_are_refused_by_name(trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": [1] * 30}))
    result = spotkeeper("replay", "--trace", str(trace), "--trace", str(other), *JOB)

    assert result.exit_code == 2
    assert "must have the same ticks" in result.output
    assert "30 of 600 s" in " ".join(result.output.split())
