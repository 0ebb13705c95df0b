import gzip
import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from emulation.ec2.traces import Sample, Trace, read_trace, synthetic_trace

CSV = "time,available,spot_price\n2023-02-15 22:08:16,1,0.918\n2023-02-15 22:11:31,0,0.918\n2023-02-15 22:14:46,0,1.2\n"
JSON = json.dumps({"metadata": {"gap_seconds": 600, "note": "x"}, "data": [1, 1, 0]})


@pytest.mark.parametrize("compressed", [False, True])
def test_a_csv_trace_is_read_with_its_prices(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / ("us-east-1a_p3.2xlarge.csv.gz" if compressed else "trace.csv")
    path.write_bytes(gzip.compress(CSV.encode()) if compressed else CSV.encode())
    assert read_trace(path) == Trace(
        (Sample(0, True, 0.918), Sample(195, False, 0.918), Sample(390, False, 1.2)), seconds=585
    )


def test_a_csv_trace_may_count_seconds_and_have_no_prices(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time,available\n100,1\n160,0\n")
    assert read_trace(path) == Trace((Sample(0, True), Sample(60, False)), seconds=120)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_json_trace_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / ("trace.json.gz" if compressed else "trace.json")
    path.write_bytes(gzip.compress(JSON.encode()) if compressed else JSON.encode())
    assert read_trace(path) == Trace((Sample(0, True), Sample(600, True), Sample(1200, False)), seconds=1800)


def test_the_example_that_the_help_names_takes_capacity_away_and_brings_it_back() -> None:
    trace = read_trace(Path(__file__).parents[2] / "examples" / "spot_availability.csv")

    assert [sample.available for sample in trace.changes()] == [True, False, True, False, True, True]
    assert {sample.spot_usd_per_hour is None for sample in trace.samples if sample.available} == {False}


def test_only_changes_matter(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": 60}, "data": [1, 1, 0, 0, 0, 1]}))
    assert [(sample.seconds, sample.available) for sample in read_trace(path).changes()] == [
        (0, True),
        (120, False),
        (300, True),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", "x", r"t\.txt: a trace's name ends in"),
        ("t.csv", "", r"t\.csv, line 1: expected the columns time,available.*an empty file"),
        ("t.csv", "when,what\n1,1\n", r"t\.csv, line 1: expected the columns time,available.*got when,what"),
        ("t.csv", "time,available\n0,1\n60,yes\n", r"t\.csv, line 3: .*0 or 1.*'yes'"),
        ("t.csv", "time,available\n0,1\n60\n", r"t\.csv, line 3: .*None"),
        ("t.csv", "time,available\nnoon,1\n", r"t\.csv, line 2: .*'noon'"),
        ("t.csv", "time,available,spot_price\n0,1,cheap\n", r"t\.csv, line 2: .*'cheap'"),
        ("t.csv", "time,available,spot_price\n0,1,0.9\n60,1,-0.9\n", r"t\.csv, line 3: .*above 0.*'-0\.9'"),
        ("t.csv", "time,available,spot_price\n0,1,nan\n60,1,1\n", r"t\.csv, line 2: .*'nan'"),
        ("t.csv", "time,available\n0,1\nnan,0\n", r"t\.csv, line 3: .*'nan'"),
        ("t.csv", "time,available\n0,1\ninf,0\n", r"t\.csv, line 3: .*'inf'"),
        ("t.csv", "time,available\n60,1\n0,0\n", r"t\.csv, line 3: times must rise"),
        ("t.csv", "time,available\n60,1\n", r"t\.csv, line 2: expected at least two samples"),
        ("t.csv.gz", "time,available\n0,1\n", r"t\.csv\.gz: not gzip-compressed text"),
        ("t.json", "{\n\n x", r"t\.json, line 3: expected"),
        ("t.json", "[1, 0]", r"t\.json, line 1: expected .*gap_seconds"),
        ("t.json", '{"metadata": {"gap_seconds": 0}, "data": [1]}', r"t\.json, line 1: .*got gap_seconds 0"),
        ("t.json", '{"metadata": {\n"gap_seconds": NaN}, "data": [1]}', r"t\.json, line 2: .*got gap_seconds nan"),
        ("t.json", '{"metadata": {"gap_seconds": 1e999}, "data": [1]}', r"t\.json, line 1: .*got gap_seconds inf"),
        ("t.json", '{"metadata": {"gap_seconds": 60},\n\n"data": [1, NaN]}', r"t\.json, line 3: .*data\[1\] is nan"),
        ("t.json", '{"metadata": {"gap_seconds": 60}, "data": []}', r"t\.json, line 1: .*data \[\]"),
        ("t.json", '{"metadata": {"gap_seconds": 60}, "data": [1, 2]}', r"t\.json, line 1: .*data\[1\] is 2"),
    ],
)
def test_a_malformed_trace_is_refused_with_file_line_and_expectation(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_trace(path)


def test_a_trace_whose_compressed_bytes_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode())[:10] + b"\xff" * 40)

    with pytest.raises(ValueError, match=r"t\.csv\.gz: not gzip-compressed text: .*invalid"):
        read_trace(path)


@pytest.mark.parametrize(("name", "content"), [("t.csv", CSV), ("t.json", JSON)])
def test_a_trace_may_begin_with_a_byte_order_mark(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    plain = read_trace(path)
    path.write_text(content, encoding="utf-8-sig")

    assert read_trace(path) == plain


def test_a_synthetic_trace_depends_on_its_seed_alone_and_keeps_its_means() -> None:
    def draw(seed: int) -> Trace:
        return synthetic_trace(Random(seed), hours=5000, mean_available_hours=4, mean_dry_hours=1)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    changes = list(draw(1).changes())
    stretches = pairwise(changes)
    available_hours = sum(after.seconds - one.seconds for one, after in stretches if one.available) / 3600
    assert changes[0].available
    assert available_hours / 5000 == pytest.approx(0.8, abs=0.03)


def test_a_synthetic_trace_needs_positive_lengths() -> None:
    with pytest.raises(ValueError, match="mean_dry_hours must be above 0; got 0"):
        synthetic_trace(Random(1), hours=1, mean_available_hours=1, mean_dry_hours=0)
