"""Availability of spot capacity over time, from recorded traces or drawn from a seed."""

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final

_CSV_EXPECTED: Final = (
    "expected the columns time,available[,spot_price]: a time, 0 or 1, USD per hour above 0 or nothing"
)
_JSON_EXPECTED: Final = 'expected {"metadata": {"gap_seconds": 600}, "data": [1, 0, …]} with 1 = available'


@dataclass(frozen=True, slots=True)
class Sample:
    """What a trace says from one moment until its next sample."""

    seconds: float
    """AWS seconds since the trace began."""
    available: bool
    spot_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Availability of one zone's spot capacity, from its first sample to `seconds` later."""

    samples: tuple[Sample, ...]
    """At least one, in order of time, the first at 0."""
    seconds: float

    def changes(self) -> Iterator[Sample]:
        """Yield the first sample and every one that differs from the one before it."""
        previous: Sample | None = None
        for sample in self.samples:
            if previous is None or (sample.available, sample.spot_usd_per_hour) != (
                previous.available,
                previous.spot_usd_per_hour,
            ):
                yield sample
            previous = sample


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Args:
        path: `.csv` with the columns `time,available[,spot_price]` (time as ISO 8601 or in seconds), or `.json` as
            `{"metadata": {"gap_seconds": 600}, "data": [1, 0, …]}`; either may end in `.gz`, and begin with a byte
            order mark, as spreadsheets write it.

    Raises:
        ValueError: if the file is not such a trace; the message names the file, the line and what is expected.
        OSError: if the file cannot be read.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix in {".csv", ".json", ".gz"}]
    kind = next((suffix for suffix in suffixes if suffix != ".gz"), "")
    if kind not in {".csv", ".json"}:
        raise ValueError(f"{path}: a trace's name ends in .csv, .csv.gz, .json or .json.gz")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not {'gzip-compressed ' * (path.suffix == '.gz')}text: {error}") from error
    return _read_csv(path, text) if kind == ".csv" else _read_json(path, text)


def synthetic_trace(
    random: Random, *, hours: float, mean_available_hours: float, mean_dry_hours: float, gap_seconds: float = 60.0
) -> Trace:
    """Draw a trace that begins available and alternates between exponentially long stretches.

    Args:
        random: Where randomness comes from.
        hours: Length of the trace.
        mean_available_hours: Mean length of a stretch with capacity.
        mean_dry_hours: Mean length of a stretch without.
        gap_seconds: Stretches are rounded to whole gaps, at least one.

    Raises:
        ValueError: if a length is not above 0.
    """
    lengths = {"hours": hours, "mean_available_hours": mean_available_hours, "mean_dry_hours": mean_dry_hours,
               "gap_seconds": gap_seconds}  # fmt: skip
    for name, value in lengths.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0; got {value}")
    samples, at_seconds, available = [], 0.0, True
    while at_seconds < hours * 3600:
        samples.append(Sample(at_seconds, available))
        mean_seconds = (mean_available_hours if available else mean_dry_hours) * 3600
        at_seconds += gap_seconds * max(1, round(random.expovariate(1 / mean_seconds) / gap_seconds))
        available = not available
    return Trace(tuple(samples), hours * 3600)


def _read_csv(path: Path, text: str) -> Trace:
    rows = csv.DictReader(io.StringIO(text))
    if not {"time", "available"} <= set(rows.fieldnames or ()):
        header = ",".join(rows.fieldnames or ()) or "an empty file"
        raise ValueError(f"{path}, line 1: {_CSV_EXPECTED}; got {header}")
    samples: list[Sample] = []
    origin: float | None = None
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            at_seconds = _seconds(row["time"])
            available = {"0": False, "1": True}[row["available"].strip()]
            price = _usd(row["spot_price"]) if row.get("spot_price") else None
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where}: {_CSV_EXPECTED}; got {dict(row)}") from error
        origin = at_seconds if origin is None else origin
        if samples and at_seconds - origin <= samples[-1].seconds:
            raise ValueError(f"{where}: times must rise from line to line; got {row['time']!r}")
        samples.append(Sample(at_seconds - origin, available, price))
    if len(samples) < 2:
        raise ValueError(f"{path}, line {rows.line_num}: expected at least two samples below the header")
    return Trace(tuple(samples), 2 * samples[-1].seconds - samples[-2].seconds)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
    if not math.isfinite(seconds):  # NaN is after nothing and before nothing
        raise ValueError(f"a time must be finite; got {text!r}")
    return seconds


def _usd(text: str) -> float:
    usd = float(text)
    if not 0 < usd < math.inf:
        raise ValueError(f"a price must be above 0; got {text!r}")
    return usd


def _read_json(path: Path, text: str) -> Trace:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {_JSON_EXPECTED}; {error.msg}") from error
    try:
        gap_seconds, data = float(document["metadata"]["gap_seconds"]), document["data"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}, line 1: {_JSON_EXPECTED}; got {text[:60]!r}") from error
    if not 0 < gap_seconds < math.inf:  # JSON of Python's knows NaN and Infinity
        where = f"{path}, line {_line_of('gap_seconds', text)}"
        raise ValueError(f"{where}: {_JSON_EXPECTED}, a finite gap above 0; got gap_seconds {gap_seconds}")
    where = f"{path}, line {_line_of('data', text)}"
    if not isinstance(data, list) or not data:
        raise ValueError(f"{where}: {_JSON_EXPECTED}; got data {str(data)[:40]}")
    for index, value in enumerate(data):
        if value not in (0, 1):
            raise ValueError(f"{where}: {_JSON_EXPECTED}; data[{index}] is {value!r}")
    samples = tuple(Sample(index * gap_seconds, bool(value)) for index, value in enumerate(data))
    return Trace(samples, len(data) * gap_seconds)


def _line_of(key: str, text: str) -> int:
    """Return the line of a key's name; the parser does not tell."""
    return text.count("\n", 0, text.index(f'"{key}"')) + 1
