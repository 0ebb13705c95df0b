"""Whom alarms tell, and from which values on: settings with defaults, each with its reason."""

import re
from dataclasses import dataclass
from typing import Final

from stacks.setting_types import check_types

PERIOD_MINUTES: Final = 5
"""One period of the sweeper: no metric of ours has more values."""

MAX_SUBSCRIBERS: Final = 20
"""Ours, against a slip: more people than that are a mailing list."""

_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)
_URL: Final = re.compile(r"https://[\w-]+(\.[\w-]+)+(:\d{1,5})?(/\S*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmSettings:
    """Subscribers and thresholds of an environment's alarms."""

    emails: tuple[str, ...] = ()
    """Addresses that are told of every alarm and of its end. Each must confirm the message that AWS sends it first."""
    urls: tuple[str, ...] = ()
    """The same for `https://` endpoints, such as a pager's. Each must confirm, too."""
    sweeper_silent_minutes: int = 15
    """Without a finished sweep for so long. Three periods: after that, leases of spot jobs begin to run out."""
    handlers_failing_minutes: int = 30
    """With a failure in every five minutes for so long. One poison message fails five times within 25 minutes and then
    lies in the dead letters, which have an alarm of their own."""
    sweep_repairs: int = 3
    """Runs in a quarter of an hour, in two running, that the sweeper brought where an event should have. Now and then
    it is merely faster than the event."""
    checkpoint_stale_minutes: int = 60
    """Without a new checkpoint: four times the most that a run loses unless it asks for more (15 minutes)."""
    mirror_stopped_minutes: int = 20
    """By which SageMaker's mirror of a checkpoint folder is late. It is asynchronous: minutes are its way, and one that
    has stopped says nothing."""
    spot_dry_minutes: int = 15
    """For so long, there have been runs that wait for spot beyond the environment's `fallback_after_seconds`. Above the
    sweeper's period, because the sweep that sees a run wait also tries to place it."""
    budget_left_percent: int = 20
    """Of the month's caps. As AWS Budgets' warning at 80 %, but in minutes instead of hours."""
    storm_hosts_lost: int = 10
    """Hosts of our attempts lost in a quarter of an hour. Fewer are the daily bread of spot."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_types(self)
        _check_subscribers("emails", self.emails, _EMAIL, "e-mail addresses")
        _check_subscribers("urls", self.urls, _URL, "URLs that begin with 'https://', as SNS signs but does not hide")
        for name, low, high in (
            ("sweeper_silent_minutes", 10, 60),
            ("handlers_failing_minutes", 10, 120),
            ("spot_dry_minutes", 5, 720),
        ):
            minutes = getattr(self, name)
            _check_whole(name, minutes, low, high)
            if minutes % PERIOD_MINUTES:
                raise ValueError(
                    f"AlarmSettings.{name} must be a multiple of {PERIOD_MINUTES} minutes, the period of the metrics, "
                    f"got {minutes}: round it"
                )
        _check_whole("sweep_repairs", self.sweep_repairs, 1, 10_000)
        _check_whole("checkpoint_stale_minutes", self.checkpoint_stale_minutes, 5, 7 * 24 * 60)
        _check_whole("mirror_stopped_minutes", self.mirror_stopped_minutes, 5, 24 * 60)
        _check_whole("budget_left_percent", self.budget_left_percent, 1, 99)
        _check_whole("storm_hosts_lost", self.storm_hosts_lost, 2, 10_000)


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    # A bool is an int to Python.
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"AlarmSettings.{name} must be a whole number from {low} to {high}, got {value!r}")


def _check_subscribers(name: str, values: tuple[str, ...], pattern: re.Pattern[str], what: str) -> None:
    if len(values) > MAX_SUBSCRIBERS or len(set(values)) != len(values):
        raise ValueError(f"AlarmSettings.{name} must be at most {MAX_SUBSCRIBERS} and each once, got {values}")
    for value in values:
        if not pattern.fullmatch(value):
            raise ValueError(f"AlarmSettings.{name} must be {what}, got {value!r}")
