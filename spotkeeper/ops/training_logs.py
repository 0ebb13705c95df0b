"""Find what the attempts of training jobs wrote: SageMaker tells no log stream, but names streams by job and node."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract.names import training_job_name
from spotkeeper.contract.training import LOG_GROUP
from spotkeeper.control.run import Run

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

_FIRST_NODE: Final = "algo-1-"


def streams(
    run: Run, attempts: Mapping[tuple[int, int], str | None], logs: "CloudWatchLogsClient"
) -> dict[tuple[int, int], str | None]:
    """Return the attempts, by (submission, number), with the stream of the first node, where it has one already.

    Each restart of a job has a stream of its own; they are told apart by their age alone.
    """
    found: dict[tuple[int, int], str | None] = {}
    for submission in sorted({submission for submission, _ in attempts}):
        names = _names(training_job_name(run.environment, run.run_id, submission), logs)
        numbers = sorted(number for of, number in attempts if of == submission)
        for place, number in enumerate(numbers):
            found[submission, number] = names[place] if place < len(names) else None
    return found


def _names(job: str, logs: "CloudWatchLogsClient") -> list[str]:
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/{_FIRST_NODE}"
    )
    told: list[Any] = []
    try:
        for page in pages:
            told += page["logStreams"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    return [one["logStreamName"] for one in sorted(told, key=lambda one: one.get("creationTime", 0))]
