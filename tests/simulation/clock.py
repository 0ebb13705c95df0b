"""Virtual seconds as the product writes times."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

START = datetime(2026, 11, 30, 20, tzinfo=UTC)
"""Four hours before a month begins."""


@lru_cache
def iso(seconds: float) -> str:
    """Return that many seconds after the start of the world, ISO 8601, UTC."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
