"""Durations as options of a command: in whole seconds, and within what the option allows."""

from spotkeeper.contract.duration import DURATION_FORM, format_duration, parse_duration


def duration_option(text: str, *, option: str, at_least: int, at_most: int) -> int:
    """Return the seconds that an option's value says.

    Raises:
        ValueError: naming the option, the form and the range.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"{option} must be {DURATION_FORM}, got {text!r}") from None
    if not seconds.is_integer():
        raise ValueError(f"{option} must come to whole seconds, got {text!r}")
    if not at_least <= seconds <= at_most:
        raise ValueError(f"{option} must be {format_duration(at_least)} to {format_duration(at_most)}, got {text!r}")
    return int(seconds)
