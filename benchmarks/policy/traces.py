"""The recorded spot markets, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emulation.ec2.traces import read_trace

ON_DEMAND_USD: Final = 3.06
"""An hour of p3.2xlarge on demand, and of every device of the published set."""
SPOT_USD: Final = 0.9731
"""The published set's price of spot, the same at all times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One zone's spot market."""

    name: str
    year: int
    available: Sequence[int]
    spot_usd_per_hour: Sequence[float]
    gap_seconds: float


def read_2022(traces: Path) -> list[Series]:
    """Read the AWS series of October 2022: two zones, one and eight V100 and K80, ticks of ten minutes."""
    return [_read(path, 2022, 600.0) for path in sorted((traces / "frontiercs-2022-mit").glob("*.json.gz"))]


def read_2023(traces: Path) -> list[Series]:
    """Read the AWS series of February 2023: five zones, p3.2xlarge, ticks of 195 s, with prices."""
    return [_read(path, 2023, 195.0) for path in sorted((traces / "skynomad-v100-2023").glob("*.csv.gz"))]


def _read(path: Path, year: int, gap_seconds: float) -> Series:
    # Time stamps of the 2023 set jitter by some seconds; a round is a tick, as its publishers have it.
    samples = read_trace(path).samples
    return Series(
        name=path.name.split(".")[0].removesuffix("_p3"),
        year=year,
        available=[int(sample.available) for sample in samples],
        spot_usd_per_hour=[sample.spot_usd_per_hour or SPOT_USD for sample in samples],
        gap_seconds=gap_seconds,
    )
