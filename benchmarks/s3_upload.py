"""A checkpoint's way to S3 beside boto3's multipart transfer: python -m benchmarks.s3_upload. Part of benchmarks.checkpoint.

Both send the same memory to an endpoint on 127.0.0.1 that compares checksums and keeps nothing, in a process of its own,
and take turns. Both sign SHA-256 of the body, because the endpoint speaks plain HTTP; over TLS, as in AWS, neither does, and
what is left favours the one that copies less.

    save_mb_s       bytes by the wall clock
    cpu_s_per_gb    seconds of processor that the uploading process took, all threads, system calls included

boto3 is measured in several ways; each ratio is to the best of them, and the worst of all sizes:

    s3_vs_boto3         how many times as fast
    s3_cpu_vs_boto3     which share of its processor time
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
OURS: Final = "s3_spotkeeper"
SIZES_MB: Final = (250, 1000)
ROUNDS: Final = 15


def run(sizes_mb: Sequence[int], rounds: int) -> dict[str, Any]:
    """Return `cases` and `ratios`."""
    with _endpoint() as url:
        cases = [case for size_mb in sizes_mb for case in _measure(url, size_mb, rounds)]
    return {"cases": cases, "ratios": _ratios(cases)}


@contextmanager
def _endpoint() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.checkpointing.s3_sink"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def _measure(url: str, size_mb: int, rounds: int) -> list[dict[str, Any]]:
    print(f"{size_mb} MB to S3: {rounds} rounds", file=sys.stderr, flush=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPOTKEEPER_"))}
    environ = {
        **kept,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "benchmarks.checkpointing.s3_client", str(size_mb), str(rounds)]
    finished = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True)
    cases: list[dict[str, Any]] = json.loads(finished.stdout)
    return cases


def _ratios(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    of: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for case in cases:
        of[case["size_mb"]][case["method"]] = case
    speeds, costs = [], []
    for methods in of.values():
        others = [case for method, case in methods.items() if method != OURS]
        speeds.append(methods[OURS]["save_mb_s"] / max(case["save_mb_s"] for case in others))
        costs.append(methods[OURS]["cpu_s_per_gb"] / min(case["cpu_s_per_gb"] for case in others))
    return {"s3_vs_boto3": round(min(speeds), 3), "s3_cpu_vs_boto3": round(max(costs), 3)}


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Return the cases as Markdown."""
    lines = ["| size | method | save, MB/s | processor, s/GB |", "|--:|---|--:|--:|"]
    for case in cases:
        figures = f"{case['save_mb_s']:.0f} | {case['cpu_s_per_gb']:.2f}"
        lines.append(f"| {case['size_mb']} MB | {case['method']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the figures."""
    figures = run(SIZES_MB, ROUNDS)
    print(table(figures["cases"]), json.dumps(figures["ratios"], indent=2), sep="\n\n")


if __name__ == "__main__":
    main()
