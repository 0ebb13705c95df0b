"""Read what a run's attempts wrote, from CloudWatch Logs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from spotkeeper.contract import training
from spotkeeper.contract.names import job_name
from spotkeeper.control.ports import Throttled
from spotkeeper.control.run import Run
from spotkeeper.ops import training_logs, waiting
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A line that an attempt wrote."""

    attempt: str
    """Submission and attempt, such as "1.2"."""
    text: str


def read(
    run_id: str, connection: Connection, *, attempt: str | None = None, pause: Callable[[], object] | None = None
) -> Iterator[LogLine]:
    """Yield the lines of a run's attempts, in their order.

    Args:
        run_id: The run.
        connection: Its environment.
        attempt: Submission and attempt, such as "1.2", to read only this one.
        pause: Waits a moment; given, new lines are followed until the run has ended or needs a person, through short
            outages.

    Raises:
        UnknownRun: the ledger has no such run.
        OperationError: the run has no such attempt.
    """
    positions: dict[str, str] = {}
    failures = 0
    while True:
        # The run before its lines: what it wrote until it ended is then read after it is known to have ended.
        try:
            run = waiting.read(run_id, connection) if pause is not None else connection.run_of(run_id)
            streams = _streams(run, connection)
            is_training = training.is_queue(run.job_queue)
            group = training.LOG_GROUP if is_training else connection.descriptor.job_log_group
            if attempt is not None and attempt not in streams:
                known = f"there are {', '.join(streams)}" if streams else "it has none yet"
                raise OperationError(f"run {run_id} has no attempt {attempt!r}: {known}")
            for number, stream in streams.items():
                if stream is not None and attempt in (None, number):
                    yield from _new_lines(number, stream, group, connection, positions)
        except waiting.PASSING:
            failures += 1
            if pause is None or failures >= waiting.MAX_FAILURES:
                raise
        else:
            failures = 0
            if pause is None or run.is_closed or run.needs_person:
                return
        pause()


def _streams(run: Run, connection: Connection) -> dict[str, str | None]:
    """Return the attempts by number, with their log streams; Batch may know one that the ledger does not yet."""
    known = {
        (attempt.submission, attempt.attempt): attempt.log_stream for attempt in connection.ledger.attempts(run.run_id)
    }
    job = connection.batch.describe(run.job_id) if run.job_id is not None and not run.is_closed else None
    if job is not None and job.name == job_name(run.run_id, run.submission):
        for number, told in enumerate(job.attempts, start=1):
            known[run.submission, number] = known.get((run.submission, number)) or told.log_stream
    if training.is_queue(run.job_queue):
        known = training_logs.streams(run, known, connection.logs)
    return {f"{submission}.{number}": known[submission, number] for submission, number in sorted(known)}


def _new_lines(
    number: str, stream: str, group: str, connection: Connection, positions: dict[str, str]
) -> Iterator[LogLine]:
    while True:
        options: dict[str, Any] = {"nextToken": positions[stream]} if stream in positions else {}
        try:
            page = connection.logs.get_log_events(
                logGroupName=group,
                logStreamName=stream,
                startFromHead=True,
                **options,
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ThrottlingException":
                raise Throttled(str(error)) from error
            if code != "ResourceNotFoundException":
                raise
            return  # The container has not written its first line.
        for event in page["events"]:
            yield LogLine(attempt=number, text=event["message"])
        # The end of a stream is told by getting the same token back.
        if page["nextForwardToken"] == positions.get(stream):
            return
        positions[stream] = page["nextForwardToken"]
