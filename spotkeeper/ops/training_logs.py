"""Find what the attempts of training jobs wrote: SageMaker tells no log stream, but names streams by job and node."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from spotkeeper.contract.names import training_job_name
from spotkeeper.contract.training import LOG_GROUP
from spotkeeper.control.run import Run

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

FIRST_NODE: Final = 1
"""Where the process runs that speaks for all of them."""
_STREAM: Final = re.compile(r"/algo-(?P<node>\d+)-(?P<began_at>\d+)$")
_YEAR_5138_SECONDS: Final = 10**11
"""Beyond it a time since 1970 is in milliseconds: AWS documents "epoch_timestamp", and shows seconds."""


def streams(
    run: Run, attempts: Mapping[tuple[int, int], str | None], logs: "CloudWatchLogsClient", *, node: int | None = None
) -> dict[tuple[int, int], dict[int, tuple[str, ...]]]:
    """Return the streams of a run's attempts by node, as far as there are some already.

    Each start of a node has a stream of its own, whose name says when it began, and nothing of the attempt; a node that
    wrote nothing has none. So what began after the end of one attempt is of a later one.

    Args:
        run: The run.
        attempts: By (submission, number), when each ended; None: it has not.
        logs: Where they are.
        node: Only those of this one.
    """
    found: dict[tuple[int, int], dict[int, tuple[str, ...]]] = {attempt: {} for attempt in attempts}
    for submission in sorted({submission for submission, _ in attempts}):
        ends = [(number, attempts[of, number]) for of, number in sorted(attempts) if of == submission]
        for began_at, of_node, name in _streams(training_job_name(run.environment, run.run_id, submission), logs, node):
            of_attempt = found[submission, _attempt_at(began_at, ends)]
            of_attempt[of_node] = (*of_attempt.get(of_node, ()), name)
    return found


def _attempt_at(seconds: float, ends: Sequence[tuple[int, str | None]]) -> int:
    """Return the first attempt that had not ended at a time, or the last of all."""
    for number, stopped_at in ends:
        if stopped_at is None or seconds <= datetime.fromisoformat(stopped_at).timestamp():
            return number
    return ends[-1][0]


def _streams(job: str, logs: "CloudWatchLogsClient", node: int | None) -> list[tuple[float, int, str]]:
    """Return when each stream of a job began, its node and its name, oldest first."""
    of_node = "" if node is None else f"{node}-"
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/algo-{of_node}"
    )
    found = []
    try:
        for page in pages:
            for told in page["logStreams"]:
                match = _STREAM.search(told["logStreamName"])
                if match is not None:
                    began_at = int(match["began_at"])
                    seconds = began_at / 1000 if began_at >= _YEAR_5138_SECONDS else began_at
                    found.append((seconds, int(match["node"]), told["logStreamName"]))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    return sorted(found)
