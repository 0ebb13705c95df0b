"""Why a training job was stopped, as a tag of it says: StopTrainingJob takes no reason, and a stopped job tells none.

The tag is written before the stop, which may fail then: so it says when, and explains only a stop that began about
then. Without that it would explain the stop of somebody else, days later. Both times are AWS's: the clock of whoever
stops a job, a laptop's perhaps, may be minutes wrong.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from spotkeeper.contract.training import STOP_REASON_TAG

TOGETHER: Final = timedelta(minutes=2)
"""How far from the tag, either way, the stop that it is about may have begun: calls are tried again."""
_LONGEST_VALUE: Final = 256
_NOT_IN_A_VALUE = re.compile(r"[^\w .:/=+\-@]")
_TIMED = re.compile(r"(?P<reason>.*) @ (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00)")


def tag_of(reason: str, *, at: datetime | None) -> dict[str, str]:
    """Return the tag by which a stop at a moment, UTC, is told; without one, it counts for any stop."""
    end = f" @ {at.isoformat(timespec='seconds')}" if at is not None else ""
    told = _NOT_IN_A_VALUE.sub(" ", reason)[: _LONGEST_VALUE - len(end)]
    return {"Key": STOP_REASON_TAG, "Value": told + end}


def reason_in(tags: Iterable[Mapping[str, str]], *, stopping_at: datetime | None) -> str | None:
    """Return why a job was stopped by us; None: it was not, or its stop is another one than that of the tag.

    Args:
        tags: Of the job.
        stopping_at: When SageMaker began to stop it; None: it does not tell, so any tag counts.
    """
    value = next((tag["Value"] for tag in tags if tag["Key"] == STOP_REASON_TAG), None)
    timed = _TIMED.fullmatch(value) if value is not None else None
    if timed is None:
        return value  # none, or one without a time
    is_of_this_stop = stopping_at is None or abs(stopping_at - datetime.fromisoformat(timed["at"])) <= TOGETHER
    return timed["reason"] if is_of_this_stop else None


def replied_at(reply: Mapping[str, Any]) -> datetime | None:
    """Return when AWS gave a reply, by its own clock; None if it does not tell."""
    told = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(told).astimezone(UTC) if told else None
    except ValueError:
        return None


def stopping_since(detail: Mapping[str, Any]) -> datetime | None:
    """Return when SageMaker began to stop a job, from what DescribeTrainingJob tells."""
    transitions = detail.get("SecondaryStatusTransitions") or ()
    return next((told["StartTime"] for told in transitions if told["Status"] == "Stopping"), None)
