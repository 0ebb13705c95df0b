"""Times as the ledger holds them: ISO 8601 text, UTC."""

from datetime import datetime


def seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one time to another: negative where a clock was wrong."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
