"""Tell a queue's backlog from a drought: where other jobs get machines, a job that waits will have its turn."""

from collections.abc import Callable

from spotkeeper.contract import training
from spotkeeper.control.moments import seconds_between


def has_backlog(queue: str, *, last_start: Callable[[str], str | None], within_seconds: float, now: str) -> bool:
    """Tell whether whoever waits in a queue waits for its turn, and not for capacity.

    SageMaker has no queue, and so no turns: what it gave to other jobs of a profile promises nothing to the next.

    Args:
        queue: ARN, or what stands for a queue on SageMaker.
        last_start: Returns when a job of a queue got a machine last.
        within_seconds: A start that is older tells nothing about the queue any more.
        now: ISO 8601, UTC.
    """
    if training.is_queue(queue):
        return False
    started_at = last_start(queue)
    return started_at is not None and seconds_between(started_at, now) < within_seconds
