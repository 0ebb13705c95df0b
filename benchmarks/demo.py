"""How long `make demo` takes once it is set up, and whether it keeps its promises: python -m benchmarks.demo."""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.result import write

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the demo with several seeds, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="run seeds 1 to this (default: %(default)s)")
    seeds = range(1, parser.parse_args().seeds + 1)
    runs = [_run(seed) for seed in seeds]
    figures = {
        "median_seconds": statistics.median(run["seconds"] for run in runs),
        "longest_seconds": max(run["seconds"] for run in runs),
        "all_promises_kept": all(run["exit_code"] == 0 for run in runs),
        "runs": runs,
    }
    write("demo", f"python -m benchmarks.demo --seeds {len(runs)}", figures)
    sys.exit(0 if figures["all_promises_kept"] else 1)


def _run(seed: int) -> dict[str, float]:
    began = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-m", "emulation", "demo", "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    run = {
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "exit_code": told.returncode,
        "promises_kept": len(re.findall(r"^  kept   ", told.stdout, re.MULTILINE)),
        "promises_broken": len(re.findall(r"^  BROKEN ", told.stdout, re.MULTILINE)),
    }
    print(run, file=sys.stderr)
    if told.returncode != 0:
        print(told.stdout, told.stderr, file=sys.stderr)
    return run


if __name__ == "__main__":
    main()
