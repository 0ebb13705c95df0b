"""How long something has been, for people."""

from datetime import datetime

from spotkeeper.contract.duration import format_elapsed


def elapsed(since: str, until: datetime) -> str:
    """Return the time between, in its two largest units."""
    return format_elapsed((until - datetime.fromisoformat(since)).total_seconds())
