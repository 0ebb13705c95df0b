"""Durations as people write them: 90s, 15m, 24h, 2d."""

import re
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"([0-9]{1,7})([smhd])")


def parse_duration(text: str, *, option: str, at_least: int, at_most: int) -> int:
    """Return the seconds that `text` says.

    Raises:
        ValueError: naming the option, the form and the range.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError(f"{option} must be a whole number with a unit (90s, 15m, 24h, 2d), got {text!r}")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not at_least <= seconds <= at_most:
        raise ValueError(f"{option} must be {format_duration(at_least)} to {format_duration(at_most)}, got {text!r}")
    return seconds


def format_duration(seconds: int) -> str:
    """Return a duration with its largest whole unit."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"
