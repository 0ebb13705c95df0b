"""Look for planted bugs, on several processes: for each the first seed that shows it, shrunk."""

from collections.abc import Iterable, Iterator
from functools import partial

from tests.simulation.many import map_in_processes, quietly
from tests.simulation.mutants import MUTANTS
from tests.simulation.shrink import shrink


def hunt_all(names: Iterable[str], *, max_seeds: int, processes: int) -> Iterator[tuple[str, bool]]:
    """Yield for each mutant, in their order, what there is to tell of it and whether it survives all seeds."""
    return map_in_processes(partial(_hunt, max_seeds=max_seeds), names, processes)


def _hunt(name: str, *, max_seeds: int) -> tuple[str, bool]:
    mutant = MUTANTS[name]()
    results = ((seed, quietly(seed, mutant.programs)) for seed in range(max_seeds))
    found = next(((seed, result) for seed, result in results if result.violation is not None), None)
    if found is None:
        return f"{name:<26} SURVIVES {max_seeds} seeds: {mutant.what}", True
    seed, result = found
    shrunk = shrink(result, mutant.programs)
    return f"{name:<26} {seed + 1:>5} seeds, {len(shrunk.decisions):>2} decisions  {shrunk.violation}", False
