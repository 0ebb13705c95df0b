"""Uploads the same bytes by one way after the other, round after round, and prints what each cost: see s3_upload."""

import json
import mmap
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.s3_parts import MIB, part_bytes
from spotkeeper.trainer.s3_store import S3Store

PATTERN = os.urandom(MIB)


def main() -> None:
    """Print a JSON list of cases; argv: size in MB, rounds."""
    size_mb, rounds = int(sys.argv[1]), int(sys.argv[2])
    memory, descriptor = _arena(size_mb * 1_000_000)
    ways = _ways(memory, descriptor)
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for upload in ways.values():
        upload(-1)  # connections and code are there from now on
    for number in range(rounds):
        for way in list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]:
            began, began_cpu = time.perf_counter(), time.process_time()
            ways[way](number)
            seen[way].append((time.perf_counter() - began, time.process_time() - began_cpu))
    cases = [_case(way, size_mb, times) for way, times in seen.items()]
    json.dump(cases, sys.stdout)


def _arena(size: int) -> tuple[memoryview, int]:
    """Return a memfd of random bytes, as the writer finds a checkpoint."""
    descriptor = os.memfd_create("benchmark")
    os.ftruncate(descriptor, size)
    memory = memoryview(mmap.mmap(descriptor, size))
    for begin in range(0, size, MIB):
        memory[begin : begin + MIB] = PATTERN[: len(memory[begin : begin + MIB])]
    return memory, descriptor


def _ways(memory: memoryview, descriptor: int) -> dict[str, Callable[[int], object]]:
    store = S3Store("bucket", "")
    settings = Config(max_pool_connections=20, response_checksum_validation="when_required")
    client = boto3.client("s3", config=settings)
    defaults = TransferConfig(preferred_transfer_client="classic")
    ours = part_bytes(len(memory))
    as_ours = TransferConfig(preferred_transfer_client="classic", multipart_chunksize=ours, max_concurrency=16)
    extra = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumCRC64NVME": crc64nvme(memory)}

    def stream(number: int) -> None:
        with open(f"/proc/self/fd/{descriptor}", "rb") as file:  # noqa: PTH123  (no path in any file system)
            client.upload_fileobj(file, "bucket", f"stream-{number}", ExtraArgs=extra, Config=defaults)

    def by_file(transfer: TransferConfig) -> Callable[[int], object]:
        name = f"/proc/self/fd/{descriptor}"
        return lambda number: client.upload_file(name, "bucket", f"file-{number}", ExtraArgs=extra, Config=transfer)

    def chunks() -> Iterator[memoryview]:
        yield memory

    return {
        "s3_spotkeeper": lambda number: store.write(f"ours-{number}", chunks(), len(memory)),
        "s3_boto3_fileobj": stream,
        "s3_boto3_file": by_file(defaults),
        "s3_boto3_file_large_parts": by_file(as_ours),
    }


def _case(way: str, size_mb: int, times: list[tuple[float, float]]) -> dict[str, Any]:
    speeds = [size_mb / seconds for seconds, _ in times]
    costs = [1000 * cpu_seconds / size_mb for _, cpu_seconds in times]
    return {
        "size_mb": size_mb,
        "method": way,
        "save_mb_s": round(statistics.median(speeds), 1),
        "cpu_s_per_gb": round(statistics.median(costs), 3),
        "rounds": len(times),
        "spread": {"save_mb_s": _quartiles(speeds), "cpu_s_per_gb": _quartiles(costs)},
    }


def _quartiles(values: list[float]) -> list[float]:
    if len(values) < 2:
        return [round(value, 3) for value in values] * 2
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return [round(lower, 3), round(upper, 3)]


if __name__ == "__main__":
    main()
