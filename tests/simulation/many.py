"""Many seeds, on several processes; the order of the results is that of the seeds."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from multiprocessing import get_context
from typing import Final, TypeVar

from tests.simulation.programs import Programs
from tests.simulation.simulation import SHIPPED, Result, simulate

SEEDS_A_TASK: Final = 50
Task = TypeVar("Task")
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a range of seeds came to."""

    failed: tuple[int, ...]
    digest: str
    num_steps: int
    simulated_seconds: float


def quietly(seed: int, programs: Programs, *, trace: bool = False) -> Result:
    """Simulate without what the commit protocol says of a store that fails, or of a checkpoint that is damaged."""
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        return simulate(seed, programs=programs, trace=trace)


def simulate_all(seeds: range, processes: int) -> Summary:
    """Simulate the shipped programs under every seed; the digest does not depend on `processes`."""
    tasks = [seeds[start : start + SEEDS_A_TASK] for start in range(0, len(seeds), SEEDS_A_TASK)]
    return _together(map_in_processes(_summarize, tasks, processes))


def map_in_processes(function: Callable[[Task], Done], tasks: Iterable[Task], processes: int) -> Iterator[Done]:
    """Yield what the function makes of each task, in their order; with one, in this process."""
    if processes == 1:
        yield from map(function, tasks)
        return
    with ProcessPoolExecutor(max_workers=processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, tasks)


def _summarize(seeds: range) -> Summary:
    results = {seed: quietly(seed, SHIPPED) for seed in seeds}
    return Summary(
        failed=tuple(seed for seed, result in results.items() if result.violation is not None),
        digest=_digest(result.digest for result in results.values()),
        num_steps=sum(result.num_steps for result in results.values()),
        simulated_seconds=sum(result.simulated_seconds for result in results.values()),
    )


def _together(parts: Iterable[Summary]) -> Summary:
    summaries = list(parts)
    return Summary(
        failed=tuple(seed for part in summaries for seed in part.failed),
        digest=_digest(part.digest for part in summaries),
        num_steps=sum(part.num_steps for part in summaries),
        simulated_seconds=sum(part.simulated_seconds for part in summaries),
    )


def _digest(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
