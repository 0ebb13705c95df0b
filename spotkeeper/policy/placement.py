"""Where a run goes next: wait for spot, or pay for on-demand; and when to look for spot again. Pure decisions.

Every decision says why. How good they are is a question of data; that they are carried out right is control's.
"""

from dataclasses import dataclass
from typing import Final

from spotkeeper.policy import deadline_guard as guard
from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.situation import Decision, Situation, Spot

__all__ = ["Decision", "Market", "Mode", "Placement", "Situation", "Spot", "Terms", "Tuning", "decide"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What an environment has settled about changing markets."""

    fallback_after_seconds: int
    """So long without spot capacity, and a run falls back to on-demand."""
    segment_seconds: int
    """An on-demand attempt is at most so long: the reservation covers all of it, and then it is decided anew."""
    standby_after_seconds: int
    """So long after its start on on-demand a run looks for spot again, by a standby."""
    standby_age_seconds: int
    """A standby so old is evidence enough that spot is there to stay."""
    standby_patience_seconds: int
    """A standby that asked for the run gives up after so long: the attempt on on-demand does not yield."""


HOST_SECONDS: Final = 300
"""Where there is capacity, a job has its host within some minutes; one that waits for longer waits for capacity."""
SHORTEST_SEGMENT_SECONDS: Final = 900
"""A shorter attempt would spend most of its reservation on starting and stopping."""
LONGEST_STANDBY_PAUSE_SECONDS: Final = 4 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the next submission goes, and why."""

    market: Market
    reason: str


def longest_wait_seconds(mode: Mode, terms: Terms) -> int:
    """Return for how long a run waits for spot before it may go to on-demand."""
    if mode is Mode.DEADLINE_FIRST:
        return min(HOST_SECONDS, terms.fallback_after_seconds)
    return terms.fallback_after_seconds


def after_shortage(*, waited_seconds: float, allows_fallback: bool, mode: Mode, terms: Terms) -> Placement:
    """Decide for a run that spot gives no machine.

    Args:
        waited_seconds: Since the run last had a machine, or was submitted.
        allows_fallback: The run has a cap for on-demand above $0.
        mode: The run's mode; one that values its deadline waits only until it is certain that there is none.
        terms: The environment's.
    """
    if not allows_fallback:
        return Placement(market=Market.SPOT, reason="no spot capacity, and the run allows no on-demand")
    limit_seconds = longest_wait_seconds(mode, terms)
    if waited_seconds < limit_seconds:
        return Placement(
            market=Market.SPOT,
            reason=f"no spot capacity for {waited_seconds:.0f} s; on-demand after {limit_seconds} s",
        )
    return Placement(market=Market.ON_DEMAND, reason=f"no spot capacity for {waited_seconds:.0f} s")


def segment(*, attempt_seconds: int, affordable_seconds: int, terms: Terms) -> int | None:
    """Return how long the next on-demand attempt may be, or None if the money is for none worth starting.

    Args:
        attempt_seconds: The run's own limit of an attempt.
        affordable_seconds: What the tightest cap can be reserved for.
        terms: The environment's.
    """
    longest = min(attempt_seconds, terms.segment_seconds)
    if affordable_seconds < min(SHORTEST_SEGMENT_SECONDS, longest):
        return None
    return min(longest, affordable_seconds)


def standby_is_due(
    *, on_demand_seconds: float, since_last_seconds: float | None, num_failed: int, terms: Terms
) -> bool:
    """Tell whether a run on on-demand should look for spot.

    Args:
        on_demand_seconds: How long its attempt has had the machine.
        since_last_seconds: Since its last standby ended; None if there was none.
        num_failed: Standbys in a row that came to nothing; each doubles the pause (hysteresis).
        terms: The environment's.
    """
    if on_demand_seconds < terms.standby_after_seconds:
        return False
    pause_seconds = min(terms.standby_after_seconds * 2 ** min(num_failed, 10), LONGEST_STANDBY_PAUSE_SECONDS)
    return since_last_seconds is None or since_last_seconds >= pause_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The constants of `decide`, fitted on recorded spot markets: see docs/placement.md."""

    gate_changeovers: float = 3.0
    patience: float = 0.2


FITTED: Final = Tuning()


def decide(at: Situation, tuning: Tuning = FITTED) -> Decision:
    """Return where a run goes on."""
    if at.remaining_hours <= 0:
        return Decision(market=None, reason="the work is done")
    if at.hours_left is not None:
        if at.spot is Spot.UP and at.market is not Market.ON_DEMAND and guard.may_use_spot(at):
            return Decision(market=Market.SPOT, reason="spot")
        if at.market is Market.ON_DEMAND:
            if at.spot is Spot.UP and at.spot_hours >= tuning.gate_changeovers*at.changeover_hours and guard.may_use_spot(at):
                return Decision(market=Market.SPOT, reason="back")
            return Decision(market=Market.ON_DEMAND, reason="stay", wants_standby=True)
        if not guard.may_wait(at):
            return Decision(market=Market.ON_DEMAND, reason="guard", wants_standby=True)
        if guard.slack_hours(at) < tuning.patience * at.remaining_hours:
            return Decision(market=Market.ON_DEMAND, reason="slack", wants_standby=True)
    if at.spot is Spot.UP:
        return Decision(market=Market.SPOT, reason="spot")
    return Decision(market=None, reason="wait")
