"""Durations as people write them, in one grammar for the command line and for training code: 90s, 15m, 1.5h, 2d."""

import re
from typing import Final

DURATION_FORM: Final = "a number with a unit (90s, 15m, 1.5h, 2d)"

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN: Final = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)([smhd])")


def parse_duration(text: str) -> float:
    """Return the seconds that `text` says.

    Raises:
        ValueError: naming the form; a number without a unit has none.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise ValueError(f"a duration must be {DURATION_FORM}, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def format_duration(seconds: int) -> str:
    """Return a duration with its largest whole unit."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def format_elapsed(seconds: float) -> str:
    """Return how long something has been, in its two largest units."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"
