"""The moment at which a host goes, on this process's own clock: one that is set must not move it."""

import time
from dataclasses import dataclass

from spotkeeper.policy.emergency_save import margin_seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, and how long before it the notice came."""

    at: float
    """On `time.monotonic`."""
    notice_seconds: float
    """0 or less if it had passed when the notice was first seen."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return a deadline so many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    def budget_seconds(self) -> float | None:
        """Return what is left for an emergency save, less the margin; None if the deadline cannot be believed."""
        if self.notice_seconds <= 0:
            return None
        return self.at - time.monotonic() - margin_seconds(self.notice_seconds)
