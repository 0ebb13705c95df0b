"""The structured lines of an attempt, from its log stream, with the time at which each was written."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract.log_lines import PREFIX, LogEvent, parse_line
from spotkeeper.contract.training import LOG_GROUP
from spotkeeper.ops.connection import Connection

_PATTERN: Final = f'"{PREFIX.strip()} {{"'
_MOST_PAGES: Final = 10
"""Of a megabyte or 10,000 lines each, from either end of a training job's log."""


def told_lines(log_stream: str, connection: Connection) -> tuple[dict[str, Any], ...]:
    """Return the lines in order, `at` of each in seconds since 1970; none of a stream that is gone or not there yet."""
    pages = connection.logs.get_paginator("filter_log_events").paginate(
        logGroupName=connection.descriptor.job_log_group, logStreamNames=[log_stream], filterPattern=_PATTERN
    )
    try:
        return tuple(line for page in pages for line in _parsed(page["events"]))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    return ()


def told_on_sagemaker(log_stream: str, connection: Connection) -> tuple[dict[str, Any], ...]:
    """Return the same of a node of a training job, as far as it accounts for the attempt's time.

    SageMaker has one log group for all jobs of an account, and whoever may filter a group's lines may read all of them.
    So the stream alone is read: from its beginning to where training starts, and from its end back to the last
    counters. A program that has told neither within ten pages told none.
    """
    try:
        head = _until(_starts, _pages(log_stream, connection, from_head=True))
        tail = _until(_counts, _pages(log_stream, connection, from_head=False))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return ()
    start, counters = (line for line in head if _starts(line)), (line for line in tail if _counts(line))
    return (*start, *counters)


def _starts(line: dict[str, Any]) -> bool:
    return line["event"] in (LogEvent.STARTED, LogEvent.RESUMED)


def _counts(line: dict[str, Any]) -> bool:
    return "seconds" in line and "num_steps" in line


def _until(is_wanted: Callable[[dict[str, Any]], bool], pages: Iterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the first page that has such a line; no lines if none of them has."""
    return next((page for page in pages if any(map(is_wanted, page))), [])


def _pages(log_stream: str, connection: Connection, *, from_head: bool) -> Iterator[list[dict[str, Any]]]:
    token: str | None = None
    for _ in range(_MOST_PAGES):
        options: dict[str, Any] = {} if token is None else {"nextToken": token}
        page = connection.logs.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=log_stream, startFromHead=from_head, **options
        )
        yield list(_parsed(page["events"]))
        following = page["nextForwardToken" if from_head else "nextBackwardToken"]
        # The end of a stream is told by getting the same token back.
        if following == token:
            return
        token = following


def _parsed(events: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for event in events:
        line = parse_line(event["message"].rstrip("\n"))
        if line is not None:
            yield {**line, "at": event["timestamp"] / 1000}
