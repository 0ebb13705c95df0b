"""Reading settings from environment variables so that one message names everything that is wrong."""

from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class EnvironmentReader:
    """Reads variables, collecting what is missing or malformed until `check` is called. Empty means not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def optional(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        """Return the parsed variable, or None if it is not set or not well-formed."""
        text = self._environ.get(name, "")
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self._problems.append(f"{name}={text!r}: {error}")
            return None

    def required(self, name: str, parse: Callable[[str], Value], placeholder: Value, *, because: str) -> Value:
        """Return the parsed variable; `placeholder` fills the gap until `check` raises."""
        if not self._environ.get(name):
            self._problems.append(f"{name} is not set, although {because}")
            return placeholder
        value = self.optional(name, parse)
        return placeholder if value is None else value

    def check(self) -> None:
        """Raise one `ValueError` that names every problem, if there is any."""
        if self._problems:
            raise ValueError("unusable environment: " + "; ".join(self._problems))


def natural_int(text: str) -> int:
    """Return a number of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number of at least 0")
    return int(text)


def positive_int(text: str) -> int:
    """Return a number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise ValueError("must be a whole number of at least 1")
    return value


def positive_seconds(text: str) -> float:
    """Return a time above 0, in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return value
