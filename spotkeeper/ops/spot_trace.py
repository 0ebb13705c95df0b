"""Recorded availability of spot capacity, and its price, from a file: for the replay, and for the emulated market."""

import csv
import gzip
import io
import json
import math
import statistics
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

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
    line: int = field(default=0, compare=False)
    """Of the file, for what is refused later."""


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


def read_trace(path: Path, *, gap_seconds: float | None = None) -> Trace:
    """Read a trace.

    Args:
        path: `.csv` with the columns `time,available[,spot_price]` (time as ISO 8601 or in seconds), or `.json` as
            `{"metadata": {"gap_seconds": 600}, "data": [1, 0, …]}`; either may end in `.gz`, and begin with a byte
            order mark, as spreadsheets write it.
        gap_seconds: Length of a tick, for a file that does not say it: CSV without the column `time`, or JSON that is
            the list alone. JSON that says another one is refused; times of CSV are checked by `ticks_of`.

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
    if gap_seconds is not None and not 0 < gap_seconds < math.inf:
        raise ValueError(f"gap_seconds must be above 0 and finite, got {gap_seconds}")
    if kind == ".csv":
        return _read_csv(path, text, gap_seconds)
    return _read_json(path, text, gap_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticks:
    """A trace as equal ticks, as `spotkeeper.policy.replay` takes it."""

    available: tuple[int, ...]
    spot_usd_per_hour: tuple[float, ...] | None
    """One price a tick; None if the trace has none."""
    gap_seconds: float


def read_ticks(path: Path, *, gap_seconds: float | None = None) -> Ticks:
    """Read a trace as ticks, for a command whose option `--trace` names it.

    Raises:
        ValueError: if it cannot be read, or is no such trace; see `read_trace` and `ticks_of`.
    """
    try:
        return ticks_of(read_trace(path, gap_seconds=gap_seconds), path, gap_seconds=gap_seconds)
    except OSError as error:
        raise ValueError(f"--trace {str(path)!r} cannot be read: {error.strerror or error}") from error


def ticks_of(trace: Trace, path: Path, *, gap_seconds: float | None = None) -> Ticks:
    """Return a trace as ticks.

    Times may jitter by less than half a tick, as the rounds of a probe do. A tick without a price has the last one
    before it, and those before the first price have that one.

    Args:
        trace: What `read_trace` returned.
        path: Of its file, for what is refused.
        gap_seconds: Length of a tick; by default the median of the trace's own steps.

    Raises:
        ValueError: where ticks are missing, or crowd; naming the line, the step and the length of a tick.
    """
    samples = trace.samples
    steps = [after.seconds - before.seconds for before, after in pairwise(samples)]
    if gap_seconds is None:
        gap_seconds = statistics.median(steps) if steps else trace.seconds
    for after, step in zip(samples[1:], steps, strict=True):
        if not abs(step - gap_seconds) < gap_seconds / 2:
            what = "a hole" if step > gap_seconds else "too close"
            raise ValueError(
                f"{path}, line {after.line}: {what}: {step:g} s after the line before, where a tick has "
                f"{gap_seconds:g} s; fill it in, or cut the trace there"
            )
    prices = [sample.spot_usd_per_hour for sample in samples]
    last = next((price for price in prices if price is not None), None)
    filled: list[float] = []
    for price in prices:
        last = price if price is not None else last
        if last is not None:
            filled.append(last)
    return Ticks(
        available=tuple(int(sample.available) for sample in samples),
        spot_usd_per_hour=tuple(filled) or None,
        gap_seconds=gap_seconds,
    )


def _read_csv(path: Path, text: str, gap_seconds: float | None) -> Trace:
    rows = csv.DictReader(io.StringIO(text))
    columns = set(rows.fieldnames or ())
    has_times = "time" in columns
    if "available" not in columns or not (has_times or gap_seconds):
        header = ",".join(rows.fieldnames or ()) or "an empty file"
        raise ValueError(f"{path}, line 1: {_CSV_EXPECTED}; got {header}")
    samples: list[Sample] = []
    origin: float | None = None
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            at_seconds = _seconds(row["time"]) if has_times else len(samples) * (gap_seconds or 0.0)
            available = {"0": False, "1": True}[row["available"].strip()]
            price = _usd(row["spot_price"]) if row.get("spot_price") else None
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where}: {_CSV_EXPECTED}; got {dict(row)}") from error
        origin = at_seconds if origin is None else origin
        if samples and at_seconds - origin <= samples[-1].seconds:
            raise ValueError(f"{where}: times must rise from line to line; got {row['time']!r}")
        samples.append(Sample(at_seconds - origin, available, price, rows.line_num))
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


def _read_json(path: Path, text: str, gap_seconds: float | None) -> Trace:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {_JSON_EXPECTED}; {error.msg}") from error
    if isinstance(document, list) and gap_seconds:
        return _ticks(document, gap_seconds, where=f"{path}, line 1")
    try:
        own_seconds, data = float(document["metadata"]["gap_seconds"]), document["data"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}, line 1: {_JSON_EXPECTED}; got {text[:60]!r}") from error
    where = f"{path}, line {_line_of('gap_seconds', text)}"
    if not 0 < own_seconds < math.inf:  # JSON of Python's knows NaN and Infinity
        raise ValueError(f"{where}: {_JSON_EXPECTED}, a finite gap above 0; got gap_seconds {own_seconds}")
    if gap_seconds and gap_seconds != own_seconds:
        raise ValueError(
            f"{where}: the trace's ticks have {own_seconds:g} s, not {gap_seconds:g} s: leave the length out"
        )
    return _ticks(data, own_seconds, where=f"{path}, line {_line_of('data', text)}")


def _ticks(data: Any, gap_seconds: float, *, where: str) -> Trace:
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
