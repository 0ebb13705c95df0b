"""Array jobs: one request, many children that differ in their index alone.

The parent never runs. It is PENDING until all children have ended, and then SUCCEEDED if all of them succeeded, else
FAILED. Each child is queued, placed and retried by itself. docs.aws.amazon.com/batch/latest/userguide/array_jobs.html
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from emulation.batch.jobs import Job, Status
from emulation.batch.refusals import refusal

SMALLEST: Final = 2
LARGEST: Final = 10_000
CHILD_FAILED: Final = "Array Child Job failed"


def size_of(request: Mapping[str, Any]) -> int | None:
    """Return how many children a SubmitJob request asks for; None for a job of its own.

    Raises:
        ClientException: if Batch takes no array of that size.
    """
    size: int | None = (request.get("arrayProperties") or {}).get("size")
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise refusal(f"Array size must be between {SMALLEST} and {LARGEST}; got {size}.")
    return size


def children_of(parent: Job, size: int) -> tuple[Job, ...]:
    """Return the children of a job that has just been made."""
    return tuple(
        replace(
            parent,
            id=f"{parent.id}:{index}",
            arn=f"{parent.arn}:{index}",
            sequence=parent.sequence + 1 + index,
            array_index=index,
            attempts=[],
        )
        for index in range(size)
    )


def ending_of(parent: Job) -> tuple[Status, str | None] | None:
    """Return how an array ends, with Batch's reason; None while a child has not ended."""
    ended = Counter(child.status for child in parent.children if child.is_finished)
    if ended.total() < len(parent.children):
        return None
    return (Status.FAILED, CHILD_FAILED) if ended[Status.FAILED] else (Status.SUCCEEDED, None)
