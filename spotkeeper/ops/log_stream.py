"""Read what a run's attempts wrote, from CloudWatch Logs."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_Streams = dict[str, dict[int, tuple[str, ...]]]
"""By attempt, such as "1.2", and node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A line that an attempt wrote."""

    attempt: str
    """Submission and attempt, such as "1.2"."""
    text: str
    node: int | None = None
    """From 1; None: the run has but one."""


def read(
    run_id: str, connection: Connection, *, attempt: str | None = None, pause: Callable[[], object] | None = None
) -> Iterator[LogLine]:
    """Yield the lines of a run's attempts, in their order; those of an attempt's nodes by their time.

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
    readers: dict[str, _Reader] = {}
    failures = 0
    while True:
        # The run before its lines: what it wrote until it ended is then read after it is known to have ended.
        try:
            run = waiting.read(run_id, connection) if pause is not None else connection.run_of(run_id)
            streams = _streams(run, connection)
            group = training.LOG_GROUP if training.is_queue(run.job_queue) else connection.descriptor.job_log_group
            if attempt is not None and attempt not in streams:
                known = f"there are {', '.join(streams)}" if streams else "it has none yet"
                raise OperationError(f"run {run_id} has no attempt {attempt!r}: {known}")
            for number, by_node in streams.items():
                if attempt in (None, number):
                    for node, text in _new_lines(by_node, group, connection, readers):
                        yield LogLine(attempt=number, text=text, node=node if run.num_nodes > 1 else None)
        except waiting.PASSING:
            failures += 1
            if pause is None or failures >= waiting.MAX_FAILURES:
                raise
        else:
            failures = 0
            if pause is None or run.is_closed or run.needs_person:
                return
        pause()


def _streams(run: Run, connection: Connection) -> _Streams:
    """Return the log streams of the attempts; AWS may know an attempt that the ledger does not yet."""
    known = {
        (attempt.submission, attempt.attempt): (attempt.log_stream, attempt.stopped_at)
        for attempt in connection.ledger.attempts(run.run_id)
    }
    job = connection.batch.describe(run.job_id) if run.job_id is not None and not run.is_closed else None
    if job is not None and job.name == job_name(run.run_id, run.submission):
        for number, told in enumerate(job.attempts, start=1):
            stream, stopped_at = known.get((run.submission, number), (None, None))
            known[run.submission, number] = (stream or told.log_stream, stopped_at or told.stopped_at)
    if training.is_queue(run.job_queue):
        ends = {attempt: stopped_at for attempt, (_, stopped_at) in known.items()}
        found = training_logs.streams(run, ends, connection.logs)
    else:
        found = {attempt: {1: (stream,)} if stream is not None else {} for attempt, (stream, _) in known.items()}
    return {f"{submission}.{number}": found[submission, number] for submission, number in sorted(found)}


def _new_lines(
    by_node: Mapping[int, Sequence[str]], group: str, connection: Connection, readers: "dict[str, _Reader]"
) -> Iterator[tuple[int, str]]:
    """Yield the lines that the nodes of an attempt have written meanwhile, each with its node, the oldest first."""
    unread = {
        readers.setdefault(stream, _Reader(stream, group, connection)): node
        for node, streams in by_node.items()
        for stream in streams
    }
    while True:
        # A refusal leaves what is here of the other streams for the next time.
        unread = {reader: node for reader, node in unread.items() if reader.has_line()}
        if not unread:
            return
        first = min(unread, key=lambda reader: (reader.lines[0][0], unread[reader]))
        yield unread[first], first.lines.popleft()[1]


class _Reader:
    """What has not been shown yet of a stream."""

    def __init__(self, stream: str, group: str, connection: Connection) -> None:
        self.lines: deque[tuple[int, str]] = deque()
        """Time and text."""
        self._stream = stream
        self._group = group
        self._connection = connection
        self._token: str | None = None

    def has_line(self) -> bool:
        """Tell whether there is a line, for which the next page is read if need be.

        Raises:
            Throttled: AWS does not tell now.
        """
        while not self.lines:
            options: dict[str, Any] = {} if self._token is None else {"nextToken": self._token}
            try:
                page = self._connection.logs.get_log_events(
                    logGroupName=self._group, logStreamName=self._stream, startFromHead=True, **options
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ThrottlingException":
                    raise Throttled(str(error)) from error
                if code != "ResourceNotFoundException":
                    raise
                return False  # The container has not written its first line.
            self.lines += [(event["timestamp"], event["message"]) for event in page["events"]]
            before, self._token = self._token, page["nextForwardToken"]
            # The end of a stream is told by getting the same token back.
            if before == self._token:
                return bool(self.lines)
        return True
