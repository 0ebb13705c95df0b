"""How often intervals of a preemption rate hold the rate they claim to hold, on lifetimes and series that are recorded.

For each group of lifetimes (machine type, zone), and for each recorded series, so many spells are drawn with
replacement; the rate of all of them is what the interval should hold.

    python -m benchmarks.hazard --traces DIR [--json]
"""

import argparse
import csv
import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import result
from spotkeeper.policy.hazard import spells_of
from spotkeeper.policy.preemption_rate import Spell, estimate

SAMPLE_SIZES = (10, 20, 50)
NUM_SAMPLES = 400
LEAST_GROUP = 40
TARGET = 0.8


def lifetimes(traces: Path) -> dict[str, list[Spell]]:
    """Return the labelled lifetimes of virtual machines, by machine type and by zone."""
    groups: defaultdict[str, list[Spell]] = defaultdict(list)
    with gzip.open(traces / "gcp-preemption-2019" / "lifetimes.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            spell = Spell(hours=float(row["lifetime_h"]), is_ended=row["preempted"] == "1")
            groups[row["machine_type"]].append(spell)
            groups[row["zone"]].append(spell)
    return {name: spells for name, spells in groups.items() if len(spells) >= LEAST_GROUP}


def series(traces: Path) -> dict[str, list[Spell]]:
    """Return the stretches with spot of every recorded series."""
    found: dict[str, list[Spell]] = {}
    for path in sorted((traces / "frontiercs-2022-mit").glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            data = json.load(file)
        found[path.name] = list(spells_of(data["data"], gap_hours=data["metadata"]["gap_seconds"] / 3600)[0])
    for path in sorted((traces / "skynomad-v100-2023").glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            ticks = [int(row["available"]) for row in csv.DictReader(file)]
        found[path.name] = list(spells_of(ticks, gap_hours=195 / 3600)[0])
    return {name: spells for name, spells in found.items() if len(spells) >= LEAST_GROUP}


def coverage(groups: Mapping[str, Sequence[Spell]], *, sample_size: int, seed: int) -> dict[str, float]:
    """Return by group the share of samples whose 90 % interval holds the rate of the group."""
    draw = Random(seed)
    covered: dict[str, float] = {}
    for name, spells in groups.items():
        truth = sum(spell.is_ended for spell in spells) / sum(spell.hours for spell in spells)
        rates = [estimate(draw.choices(spells, k=sample_size)) for _ in range(NUM_SAMPLES)]
        covered[name] = sum(rate.low_per_hour <= truth <= rate.high_per_hour for rate in rates) / NUM_SAMPLES
    return covered


def measure(traces: Path) -> dict[str, Any]:
    """Return the coverage on both kinds of data, for each size of sample."""
    figures: dict[str, Any] = {}
    for kind, groups in (("lifetimes", lifetimes(traces)), ("series", series(traces))):
        figures[kind] = {}
        for size in SAMPLE_SIZES:
            by_group = coverage(groups, sample_size=size, seed=size)
            figures[kind][str(size)] = {
                "groups": len(by_group),
                "mean": round(sum(by_group.values()) / len(by_group), 3),
                "worst": round(min(by_group.values()), 3),
            }
    return figures


def lifetimes_coverage(traces: Path) -> float:
    """Return the mean coverage of the lifetimes by samples of ten."""
    by_group = coverage(lifetimes(traces), sample_size=SAMPLE_SIZES[0], seed=SAMPLE_SIZES[0])
    return round(sum(by_group.values()) / len(by_group), 3)


def main(arguments: Sequence[str]) -> None:
    """Measure, and write a dated result.

    Raises:
        SystemExit: with 1 if the mean coverage of the lifetimes is below the target.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of recorded traces")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    figures = measure(options.traces)
    result.write("hazard", "python -m benchmarks.hazard --traces DIR", {"nominal_coverage": 0.9, **figures})
    if options.json:
        print(json.dumps(figures))
    else:
        for kind, sizes in figures.items():
            for size, found in sizes.items():
                print(f"{kind:<10} {size:>3} spells: {found['mean']:.1%} covered, worst of {found['groups']} groups "
                      f"{found['worst']:.1%}")  # fmt: skip
    sys.exit(any(found["worst"] < TARGET for found in figures["lifetimes"].values()))


if __name__ == "__main__":
    main(sys.argv[1:])
