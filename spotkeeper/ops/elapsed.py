"""How long something has been, for people."""

from datetime import datetime


def elapsed(since: str, until: datetime) -> str:
    """Return the time between, in its two largest units."""
    seconds = max(0, int((until - datetime.fromisoformat(since)).total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"
