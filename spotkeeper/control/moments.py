"""Times as the ledger holds them: ISO 8601 text, UTC."""

from datetime import datetime


def seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one time to another: negative where a clock was wrong."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def is_moment(text: object) -> bool:
    """Tell whether something is such a text, with a zone: what others have written may be anything."""
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
