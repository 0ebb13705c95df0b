"""Read what a run's attempts wrote, from CloudWatch Logs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from spotkeeper.contract.names import job_name
from spotkeeper.control.ports import Throttled
from spotkeeper.control.run import Run
from spotkeeper.ops import waiting
from spotkeeper.ops.connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A line that an attempt wrote."""

    attempt: str
    """Submission and attempt, such as "1.2"."""
    text: str


def read(
    run_id: str, connection: Connection, *, attempt: int | None = None, pause: Callable[[], object] | None = None
) -> Iterator[LogLine]:
    """Yield the lines of a run's attempts, in their order.

    Args:
        run_id: The run.
        connection: Its environment.
        attempt: Batch's attempt number, to read only this one.
        pause: Waits a moment; given, new lines are followed until the run has ended or needs a person, through short
            outages.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    positions: dict[str, str] = {}
    failures = 0
    while True:
        # The run before its lines: what it wrote until it ended is then read after it is known to have ended.
        try:
            run = waiting.read(run_id, connection) if pause is not None else connection.run_of(run_id)
            for number, stream in _streams(run, connection):
                if attempt is None or number.endswith(f".{attempt}"):
                    yield from _new_lines(number, stream, connection, positions)
        except waiting.PASSING:
            failures += 1
            if pause is None or failures >= waiting.MAX_FAILURES:
                raise
        else:
            failures = 0
            if pause is None or run.is_closed or run.needs_person:
                return
        pause()


def _streams(run: Run, connection: Connection) -> list[tuple[str, str]]:
    """Return number and log stream of the attempts that have one; Batch may know one that the ledger does not yet."""
    known = {
        (attempt.submission, attempt.attempt): attempt.log_stream
        for attempt in connection.ledger.attempts(run.run_id)
        if attempt.log_stream is not None
    }
    job = connection.batch.describe(run.job_id) if run.job_id is not None and not run.is_closed else None
    if job is not None and job.name == job_name(run.run_id, run.submission):
        for number, told in enumerate(job.attempts, start=1):
            if told.log_stream is not None:
                known.setdefault((run.submission, number), told.log_stream)
    return [(f"{submission}.{number}", stream) for (submission, number), stream in sorted(known.items())]


def _new_lines(number: str, stream: str, connection: Connection, positions: dict[str, str]) -> Iterator[LogLine]:
    while True:
        options: dict[str, Any] = {"nextToken": positions[stream]} if stream in positions else {}
        try:
            page = connection.logs.get_log_events(
                logGroupName=connection.descriptor.job_log_group,
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
