"""The structured lines of an attempt, from its log stream, with the time at which each was written."""

from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract.log_lines import PREFIX, parse_line
from spotkeeper.ops.connection import Connection

_PATTERN: Final = f'"{PREFIX.strip()} {{"'


def told_lines(log_stream: str, connection: Connection) -> tuple[dict[str, Any], ...]:
    """Return the lines in order, `at` of each in seconds since 1970; none of a stream that is gone or not there yet."""
    pages = connection.logs.get_paginator("filter_log_events").paginate(
        logGroupName=connection.descriptor.job_log_group, logStreamNames=[log_stream], filterPattern=_PATTERN
    )
    found = []
    try:
        for page in pages:
            for event in page["events"]:
                line = parse_line(event["message"].rstrip("\n"))
                if line is not None:
                    found.append({**line, "at": event["timestamp"] / 1000})
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    return tuple(found)
