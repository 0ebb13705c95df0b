"""The structured lines that `spotkeeper-exec` and the trainer library write among a program's own output.

    spotkeeper {"event":"committed","epoch":2,"step":1200,"run":"digits-7fq2","cause":"periodic","seconds":0.21}

Every line has `event`, `run` and `epoch`; `step` where one is known. Other programs (the timeline of the demo,
CloudWatch Logs Insights) read them back with `parse`.
"""

import json
from enum import StrEnum
from typing import Any, Final

PREFIX: Final = "spotkeeper "
_BEGINNING: Final = PREFIX + '{"event":'
"""It is in no line's own text, where JSON writes its quotes with a backslash."""


class LogEvent(StrEnum):
    """What happened."""

    CLAIMED = "claimed"
    """The attempt owns the run; `epoch`, and where it runs."""
    STANDBY = "standby"
    """The attempt, of `submission`, waits for its run as the standby of it."""
    HANDOVER_ASKED = "handover_asked"
    """The standby has asked for its run; whoever holds that saves and yields."""
    LEFT = "left"
    """The standby leaves without the run: `reason`."""
    FENCED = "fenced"
    """The attempt was refused, or found a newer epoch; it stops."""
    STARTED = "started"
    """Nothing to resume: training starts at step 0 and saves every `max_lost_seconds`."""
    RESUMED = "resumed"
    """Training continues after `step` and saves every `max_lost_seconds`; `manifest` names the checkpoint."""
    OVERRIDDEN = "overridden"
    """A setting of the program does not count, as the checkpoint has its own: `object`, `setting`, `checkpoint`,
    `program`."""
    DAMAGED = "damaged"
    """A checkpoint was skipped: `manifest`, `reason`."""
    PROGRESS = "progress"
    """`step` of `total` steps are done; `metrics`, what the program logged last; and where this attempt's time went:
    `checkpoint_age_seconds`, `num_steps`, `num_saves`, and `seconds` by activity. At the first step, every minute, and
    at the end."""
    COMMITTED = "committed"
    """A checkpoint of `step` is durable: `cause`, `seconds`, `bytes`."""
    SAVE_FAILED = "save_failed"
    """A checkpoint could not be written: `reason`. Training goes on."""
    NOTICE = "notice"
    """The host will be taken away, or the attempt is to stop: `kind`, `deadline`, and `reason` of a program's own."""
    LINGERING = "lingering"
    """Saved; waiting for the host to go, so that no retry lands on it. The library also tells the counters of a
    progress line: these may be its last words."""
    YIELDED = "yielded"
    """The program stopped early on request; another attempt goes on. `committed_step`, and the counters of a progress
    line."""
    COMPLETED = "completed"
    """The program finished; the completion record is written. `reason` where an earlier attempt had done so."""


def format_line(event: LogEvent, **fields: Any) -> str:
    """Return one line, without a newline."""
    return PREFIX + json.dumps({"event": event.value, **fields}, separators=(",", ":"), default=str)


def parse_line(line: str) -> dict[str, Any] | None:
    """Return the fields of a structured line, or None for any other text.

    It may stand behind what a program wrote without a newline, such as a counter that overwrites itself.
    """
    begin = line.rfind(_BEGINNING)
    if begin < 0:
        return None
    try:
        fields: dict[str, Any] = json.loads(line[begin + len(PREFIX) :])
    except json.JSONDecodeError:
        return None
    return fields
