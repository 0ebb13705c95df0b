"""A circuit breaker for a pool that keeps taking its machines before they have done anything, with recovery. Pure.

Closed, it lets machines in. After some deaths in a row it opens, and lets none in for a pause. Then it is half open:
one machine is let in on trial. If that one lives, the breaker closes; if it dies young too, it opens for twice as long.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

DEATHS_TO_OPEN: Final = 3
"""In a row. Two happen by chance where one in three machines dies young, as recorded on V100: one time in nine."""
PROVEN_SECONDS: Final = 1800
"""A machine so old has paid for its start, and for the next one's."""
FIRST_PAUSE_SECONDS: Final = 1800
LONGEST_PAUSE_SECONDS: Final = 6 * 3600


class BreakerState(StrEnum):
    """What the breaker lets in."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolBreaker:
    """The breaker of one pool. Times are seconds on any clock that does not go back."""

    num_deaths: int = 0
    """Of young machines, in a row."""
    opened_at: float | None = None
    pause_seconds: float = 0.0
    is_on_trial: bool = False
    """The one machine that half open lets in has been let in."""

    def state(self, now: float) -> BreakerState:
        """Return what the breaker is now."""
        if self.opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.opened_at + self.pause_seconds else BreakerState.HALF_OPEN

    def allows(self, now: float) -> bool:
        """Whether a machine may be started."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self.is_on_trial)

    def after_start(self, now: float) -> "PoolBreaker":
        """Return the breaker after a machine was started."""
        return replace(self, is_on_trial=True) if self.state(now) is BreakerState.HALF_OPEN else self

    def after_end(self, now: float, *, age_seconds: float, is_preempted: bool) -> "PoolBreaker":
        """Return the breaker after a machine ended.

        Args:
            now: When it ended.
            age_seconds: Its age then.
            is_preempted: It was taken. One that we stopped while it was young says nothing, and ends a trial without a
                verdict.
        """
        if age_seconds >= PROVEN_SECONDS:
            return PoolBreaker()
        if not is_preempted:
            return replace(self, is_on_trial=False)
        num_deaths = self.num_deaths + 1
        if self.opened_at is None and num_deaths < DEATHS_TO_OPEN:
            return replace(self, num_deaths=num_deaths)
        if self.state(now) is BreakerState.OPEN:
            # It was started before the breaker opened: what it tells is known already.
            return replace(self, num_deaths=num_deaths)
        pause_seconds = min(2 * self.pause_seconds or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        return PoolBreaker(num_deaths=num_deaths, opened_at=now, pause_seconds=pause_seconds)

    def after_proof(self) -> "PoolBreaker":
        """Return the breaker after a machine grew older than `PROVEN_SECONDS`: closed, whatever was before."""
        return PoolBreaker()

    def reason(self, now: float) -> str:
        """Say why machines are let in, or not."""
        match self.state(now):
            case BreakerState.CLOSED:
                return f"{self.num_deaths} machines in a row were taken young; {DEATHS_TO_OPEN} are too many"
            case BreakerState.OPEN:
                assert self.opened_at is not None
                left = self.opened_at + self.pause_seconds - now
                return f"{self.num_deaths} machines in a row were taken young; a trial in {left:.0f} s"
            case BreakerState.HALF_OPEN:
                return "a machine is on trial" if self.is_on_trial else "a trial is due"
