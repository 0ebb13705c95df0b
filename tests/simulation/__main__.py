"""`python -m tests.simulation`: many seeds, one seed with its schedule, or the planted bugs."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.simulation.hunt import hunt_all
from tests.simulation.many import quietly, simulate_all
from tests.simulation.mutants import MUTANTS
from tests.simulation.programs import Programs
from tests.simulation.shrink import report, shrink
from tests.simulation.simulation import SHIPPED

MAX_SHRUNK: Final = 3
SECONDS_A_YEAR: Final = 365 * 86400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return 0 if nothing was violated and no mutant survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="how many, from FIRST on (200; 10,000 for mutants)")
    parser.add_argument("--first", type=int, default=0, metavar="FIRST")
    parser.add_argument("--seed", type=int, metavar="N", help="simulate one seed; if it fails, shrink it")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with --seed: plant this bug")
    parser.add_argument("--mutants", action="store_true", help="find every planted bug, within --seeds seeds")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    # A bug that needs faults to coincide shows in one seed of several thousand.
    options.seeds = options.seeds if options.seeds is not None else 10_000 if options.mutants else 200
    for name in ("seeds", "processes"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}: none would prove nothing")
    if options.mutants:
        return _find_mutants(max_seeds=options.seeds, processes=options.processes)
    if options.seed is not None:
        programs = MUTANTS[options.mutant]().programs if options.mutant else SHIPPED
        return _one(options.seed, programs, trace=options.trace)
    return _many(range(options.first, options.first + options.seeds), options.processes)


def _one(seed: int, programs: Programs, *, trace: bool) -> int:
    found = quietly(seed, programs, trace=trace)
    if found.violation is None:
        print(
            *found.lines, f"seed {seed}: no violation, {found.num_steps:,} steps, state {found.digest[:16]}", sep="\n"
        )
        return 0
    print(*report(shrink(found, programs)), sep="\n")
    return 1


def _many(seeds: range, processes: int) -> int:
    began = time.perf_counter()
    summary = simulate_all(seeds, processes)
    seconds = time.perf_counter() - began
    print(
        f"{len(seeds):,} seeds, {len(summary.failed)} violations; {summary.num_steps:,} steps, "
        f"{summary.simulated_seconds / SECONDS_A_YEAR:.1f} simulated years, {seconds:.1f} s on {processes} processes; "
        f"state {summary.digest[:16]}"
    )
    if not summary.failed:
        return 0
    shrunk = {seed: shrink(quietly(seed, SHIPPED), SHIPPED) for seed in summary.failed[:MAX_SHRUNK]}
    seed = min(shrunk, key=lambda seed: len(shrunk[seed].decisions))
    print(f"failing seeds: {summary.failed[:20]}; seed {seed}, shrunk:", *report(shrunk[seed]), sep="\n")
    return 1


def _find_mutants(*, max_seeds: int, processes: int) -> int:
    survivors = 0
    for line, survives in hunt_all(MUTANTS, max_seeds=max_seeds, processes=processes):
        survivors += survives
        print(line, flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survive")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
