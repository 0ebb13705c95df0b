"""What a check finds, and how it says that it could not look."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    subject: str
    """What is wrong."""
    value: str
    """As it was found."""
    expected: str
    """As it should be, with the reason where it is not plain."""
    fix: str
    """What to do: a command in backticks where there is one."""


class NotCheckedHere(Exception):  # noqa: N818 - a state that the report shows, not a failure
    """Nobody can make the check from this account; the message says where. That keeps nothing from being well."""


class NotChecked(Exception):  # noqa: N818 - a state that the report shows, not a failure
    """The check could not be made; the message says why. That is no pass."""
