"""A large object from S3, by ranges side by side, each received where it belongs."""

import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError, IncompleteReadError

from spotkeeper.trainer.s3_parts import CONNECTIONS, SLICE_BYTES, part_bytes, split
from spotkeeper.trainer.s3_patience import Patience, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HUGE_PAGES: Final = getattr(mmap, "MADV_HUGEPAGE", None)
"""Fresh memory in pages of 2 MiB where the system has them, so that touching it first costs less."""


class OtherSizeError(Exception):
    """The object does not have as many bytes as were asked for."""


def fresh_memory(total_bytes: int) -> mmap.mmap:
    """Return memory that goes with the last view of it."""
    memory = mmap.mmap(-1, total_bytes)
    if HUGE_PAGES is not None:
        memory.madvise(HUGE_PAGES)
    return memory


def download(client: "S3Client", bucket: str, key: str, memory: mmap.mmap, patience: Patience) -> memoryview:
    """Fill the memory, which is as large as the object, with its content, and return a view of it.

    Raises:
        OtherSizeError: if the object has another size.
        OSError: as `Patience.persist` does.
    """
    content, total_bytes = memoryview(memory), len(memory)

    def fetch(begin: int, part: memoryview) -> None:
        patience.persist(f"read {key}", lambda: _receive(client, bucket, key, begin, part, total_bytes))

    parts = list(split(content, part_bytes(total_bytes)))
    begins = [sum(map(len, parts[:number])) for number in range(len(parts))]
    with ThreadPoolExecutor(CONNECTIONS, "spotkeeper-download") as pool:
        try:
            list(pool.map(fetch, begins, parts))
        except BaseException:
            patience.give_up()
            pool.shutdown(cancel_futures=True)
            raise
    return content.toreadonly()


def _receive(client: "S3Client", bucket: str, key: str, begin: int, part: memoryview, total_bytes: int) -> None:
    asked = f"bytes {begin}-{begin + len(part) - 1}/{total_bytes}"
    try:
        answer = client.get_object(Bucket=bucket, Key=key, Range=asked.rpartition("/")[0].replace(" ", "="))
    except ClientError as error:
        if status_of(error) == 416:
            raise OtherSizeError from error
        raise
    with answer["Body"] as body:
        if answer.get("ContentRange") != asked:
            raise OtherSizeError
        received = 0
        while received < len(part):
            count = body.readinto(part[received : received + SLICE_BYTES])  # type: ignore[arg-type]  # a buffer it is
            if not count:
                raise IncompleteReadError(actual_bytes=received, expected_bytes=len(part))
            received += count
