"""What a checkpoint costs a training on this machine, beside other ways to make one: python -m benchmarks.checkpoint.

    python -m benchmarks.checkpoint                              prints a table, and keeps the figures with a date
    python -m benchmarks.checkpoint --json                       prints one JSON object and keeps no file
    python -m benchmarks.checkpoint --sizes 50 --threads 1 --rounds 3      a look, in two minutes

A model and its AdamW state are trained on a few compute threads, and saved to the disk below --folder. Methods take
turns, round after round, each in a warmed-up process, so that a machine that slows down does so for all of them.

    stall_ms     for how long the training thread waits for one checkpoint, joins in the optimizer's hooks included
    lost_ms      what training loses for one: the same steps with a save, from its beginning until it is durable and a
                 step more, less the same steps without
    restore_ms   until the newest checkpoint is back in model and optimizer, its file in the page cache; spotkeeper
                 verifies every byte, the others none
    save_mb_s    while the training waits, until the checkpoint is durable

Each is the median of all rounds, and its spread the quartiles. The time of steps is noisy: no lost_ms is known more
exactly than its spread; in the `ratios` it counts as the stall at least. Each of these is the worst of all cases.

How checkpoints get to S3 is measured by `benchmarks.s3_upload`, which says what its figures mean.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import s3_upload
from benchmarks.result import write

ROOT: Final = Path(__file__).parents[1]
SIZES_MB: Final = (250, 1000)
THREADS: Final = (1, 2)
ROUNDS: Final = 15
INTERVAL_SECONDS: Final = 600

PROCESSES: Final = (
    ("memcpy", "raw_write", "raw_direct_write", "torch_save", "torch_save_mmap", "safetensors"),
    ("dcp_async",),
    ("dcp_async_cached_stager",),
    ("dcp_async_process",),
    ("spotkeeper",),
    ("spotkeeper_blocking",),
)
"""Methods that leave no memory or threads behind share a process."""
DCP: Final = ("dcp_async", "dcp_async_cached_stager", "dcp_async_process")
RAW: Final = ("raw_write", "raw_direct_write")
FIGURES: Final = ("stall_ms", "lost_ms", "restore_ms", "save_mb_s")

Case = dict[str, Any]


def measure(sizes_mb: Iterable[int], threads: Iterable[int], rounds: int, folder: Path) -> list[Case]:
    """Return a case for each size, number of threads and method."""
    settings = [(size_mb, num_threads) for size_mb in sizes_mb for num_threads in threads]
    return [case for size_mb, num_threads in settings for case in _measure(size_mb, num_threads, rounds, folder)]


def _measure(size_mb: int, num_threads: int, rounds: int, folder: Path) -> Iterator[Case]:
    seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(dir=folder) as own, ExitStack() as stack:
        workers: dict[str, _Worker] = {}
        for methods in PROCESSES:
            worker = stack.enter_context(_worker(size_mb, num_threads, own, methods))
            workers |= dict.fromkeys(methods, worker)
        for number in range(rounds):
            _say(f"{size_mb} MB, {num_threads} threads: round {number + 1} of {rounds}")
            for method in _rotated(list(workers), number):
                for figure, value in workers[method].round(method).items():
                    seen[method][figure].append(value)
    for method, figures in seen.items():
        yield {
            "size_mb": size_mb,
            "threads": num_threads,
            "method": method,
            **{figure: _median(figures[figure]) for figure in FIGURES},
            "rounds": rounds,
            "spread": {figure: _quartiles(values) for figure, values in figures.items()},
        }


class _Worker:
    """A warmed-up process."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.answer()

    def round(self, method: str) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(method + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}:\n{self._log.read_text()[-4000:]}")
        figures: dict[str, float] = json.loads(line)
        return figures


@contextmanager
def _worker(size_mb: int, num_threads: int, folder: str, methods: Sequence[str]) -> Iterator[_Worker]:
    _say(f"{size_mb} MB, {num_threads} threads: warms up {', '.join(methods)}")
    module = "benchmarks.checkpointing.worker"
    command = [sys.executable, "-m", module, str(size_mb), str(num_threads), folder, *methods]
    environ = {**_environ(), "OMP_NUM_THREADS": str(num_threads)}
    log = Path(folder) / f"{methods[0]}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield _Worker(process, log)
        finally:
            process.kill()


def _environ() -> dict[str, str]:
    ours = ("SPOTKEEPER_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # A closed port: there is no metadata service to wait for.
    return {**kept, "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}


def _rotated(methods: list[str], number: int) -> list[str]:
    first = number % len(methods)
    return methods[first:] + methods[:first]


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [round(value, 2) for value in values] * 2
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return [round(lower, 2), round(upper, 2)]


def ratios(cases: Sequence[Case]) -> dict[str, float | None]:
    """Return the ratios that have a target, each of the case in which it is worst."""
    settings: dict[tuple[int, int], dict[str, Case]] = defaultdict(dict)
    for case in cases:
        settings[case["size_mb"], case["threads"]][case["method"]] = case
    found = [_ratios_of(of) for of in settings.values()]
    worst: dict[str, float | None] = {name: max(each[name] for each in found) for name in found[0] if name != LEAST}
    largest = max(size_mb for size_mb, _ in settings)
    lost_ms = max(_lost_ms(case) for case in cases if (case["size_mb"], case["method"]) == (largest, "spotkeeper"))
    return worst | {
        LEAST: min(each[LEAST] for each in found),
        "overhead_at_10_min": round(lost_ms / 1000 / INTERVAL_SECONDS, 6),
    }


LEAST: Final = "local_save_vs_raw"
"""The one ratio of which more is better."""


def _ratios_of(of: Mapping[str, Case]) -> dict[str, float]:
    """Return the ratios of one size and number of threads."""
    ours = of["spotkeeper"]
    blocking = of["spotkeeper_blocking"]
    best_stall = min(of[method]["stall_ms"] for method in DCP)
    best_lost = min(_lost_ms(of[method]) for method in DCP)
    return {
        "stall_overlapped_vs_best_dcp": round(ours["stall_ms"] / best_stall, 4),
        "stall_blocking_vs_memcpy": round(blocking["stall_ms"] / of["memcpy"]["stall_ms"], 3),
        "lost_vs_best_dcp": round(_lost_ms(ours) / best_lost, 3),
        "restore_vs_memcpy": round(ours["restore_ms"] / of["memcpy"]["restore_ms"], 3),
        LEAST: round(ours["save_mb_s"] / max(of[method]["save_mb_s"] for method in RAW), 3),
    }


def _lost_ms(case: Case) -> float:
    """Return the lost time, which is at least the stall: below it there is only noise."""
    return float(max(case["lost_ms"], case["stall_ms"]))


def table(cases: Iterable[Case]) -> str:
    """Return the cases as Markdown."""
    lines = [
        "| size | threads | method | stall, ms | lost, ms | restore, ms | save, MB/s |",
        "|--:|--:|---|--:|--:|--:|--:|",
    ]
    for case in cases:
        figures = " | ".join("-" if case[figure] is None else f"{case[figure]:.1f}" for figure in FIGURES)
        lines.append(f"| {case['size_mb']} MB | {case['threads']} | {case['method']} | {figures} |")
    return "\n".join(lines)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"must be whole numbers from 1 with commas between them, got {text!r}")
    return tuple(int(number) for number in numbers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print or keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and keep no file")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each method (default: %(default)s)")
    parser.add_argument(
        "--sizes", type=_numbers, default=SIZES_MB, help="of model and optimizer, MB (default: 250,1000)"
    )
    parser.add_argument("--threads", type=_numbers, default=THREADS, help="that compute (default: 1,2)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="on the disk to save to (default: build)")
    asked = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(asked)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    options.folder.mkdir(parents=True, exist_ok=True)
    cases = measure(options.sizes, options.threads, options.rounds, options.folder.absolute())
    s3 = s3_upload.run(options.sizes, options.rounds)
    uploads = [{"threads": None, **dict.fromkeys(FIGURES), **case} for case in s3["cases"]]
    figures = {"cases": [*cases, *uploads], "ratios": {**ratios(cases), **s3["ratios"]}}
    if options.json:
        print(json.dumps(figures))
        return
    print(table(cases), s3_upload.table(s3["cases"]), json.dumps(figures["ratios"], indent=2), sep="\n\n")
    write(_name(options.sizes), shlex.join(["python", "-m", "benchmarks.checkpoint", *asked]), figures)


def _name(sizes_mb: Sequence[int]) -> str:
    """Return the name of the file: all sizes take over an hour, so each may be measured, and kept, by itself."""
    return "_".join(["checkpoint", *(f"{size_mb}mb" for size_mb in sizes_mb if tuple(sizes_mb) != SIZES_MB)])


if __name__ == "__main__":
    main()
