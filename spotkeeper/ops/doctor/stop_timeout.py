"""Does a save fit into the time that a stopped job has, and that into the notice?

SIGTERM comes when a job is stopped (a pause, a handover, its time limit) and SIGKILL after the ECS agent's stop
time-out. A spot host is gone two minutes after its notice, whatever the agent would still wait for.
"""

import base64
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

NOTICE_SECONDS: Final = 120
"""docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"""
AGENT_DEFAULT_SECONDS: Final = 30
"""github.com/aws/amazon-ecs-agent, README: ECS_CONTAINER_STOP_TIMEOUT"""
LOOK_BACK: Final = timedelta(days=7)
MOST_PAGES: Final = 20
"""Of log lines: at most 20 MB are read. Later saves than these say the same."""

_SETTING: Final = re.compile(r"\bECS_CONTAINER_STOP_TIMEOUT=(?:(\d+)m)?(?:(\d+)s)?\s")


def saves_fit_the_stop_timeout(examined: Examined) -> Iterator[Finding]:
    """The stop time-out is below the notice, and the longest save of the last week below the stop time-out."""
    saves = longest_saves(examined)
    shortest = None
    for template, data in examined.launch_templates():
        timeout = stop_timeout_seconds(data)
        shortest = timeout if shortest is None else min(shortest, timeout)
        if timeout >= NOTICE_SECONDS:
            yield Finding(
                subject=f"launch template {template}, ECS_CONTAINER_STOP_TIMEOUT",
                value=f"{timeout} s",
                expected=f"below {NOTICE_SECONDS} s: a host that had its notice is gone by then",
                fix=f"set it to 110s in stacks/constructs/job_host.py, {examined.deploy}",
            )
    for run_id, seconds in saves.items():
        if shortest is not None and seconds >= shortest:
            yield Finding(
                subject=f"longest save of run {run_id} in the last {LOOK_BACK.days} days",
                value=f"{seconds:g} s",
                expected=f"below {shortest} s, the stop time-out of its host: SIGKILL ends the save, and the work "
                "since the last checkpoint is lost",
                fix=_shorten(examined, shortest),
            )


def _shorten(examined: Examined, timeout: int) -> str:
    if timeout < 110:
        return f"set ECS_CONTAINER_STOP_TIMEOUT=110s in stacks/constructs/job_host.py, {examined.deploy}"
    return (
        "save less (freeze what does not train, drop what can be rebuilt) or submit with a smaller --max-lost: the "
        "periodic checkpoint then bounds what is lost"
    )


def stop_timeout_seconds(data: dict[str, Any]) -> int:
    """Return the ECS agent's stop time-out by a launch template's user data."""
    text = base64.b64decode(data.get("UserData", "")).decode(errors="replace")
    found = _SETTING.findall(f"{text}\n")
    if not found:
        return AGENT_DEFAULT_SECONDS
    minutes, seconds = found[-1]  # The last line of a file of settings counts.
    return 60 * int(minutes or 0) + int(seconds or 0)


def longest_saves(examined: Examined) -> dict[str, float]:
    """Return the longest save of each run that committed within the last week, as far as the log was read."""
    pages = examined.connection.logs.get_paginator("filter_log_events").paginate(
        logGroupName=examined.descriptor.job_log_group,
        startTime=int((examined.now - LOOK_BACK).timestamp() * 1000),
        filterPattern=LogEvent.COMMITTED.value,
    )
    longest: dict[str, float] = {}
    for number, page in enumerate(pages, start=1):
        for event in page["events"]:
            fields = parse_line(event["message"].rstrip("\n"))
            if fields is not None and fields["event"] == LogEvent.COMMITTED:
                run_id = str(fields["run"])
                longest[run_id] = max(longest.get(run_id, 0.0), float(fields["seconds"]))
        if number == MOST_PAGES:
            break
    return longest
