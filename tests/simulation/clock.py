"""Virtual seconds as the product writes times."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 30, 20, tzinfo=UTC)
"""Four hours before a month begins."""


def iso(seconds: float) -> str:
    """Return that many seconds after the start of the world, ISO 8601, UTC."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
