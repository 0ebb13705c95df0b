"""What a standby does next, and when it is given way to: make before break.

Pure; the attempt on standby, and the one that holds the run, ask it again every few seconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from spotkeeper.policy.placement import Market


class StandbyStep(StrEnum):
    """The next thing to do."""

    WAIT = "wait"
    ASK = "ask"
    """Ask the attempt that holds the run to save and yield."""
    CLAIM = "claim"
    """The run has moved on to this submission."""
    LEAVE = "leave"
    """The run does not want this standby any more, or it has waited long enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """How old a standby must be, and how long it then waits for the run."""

    age_seconds: float
    patience_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StandbyView:
    """What the run's item says, as far as a standby asks."""

    is_live: bool
    """Neither ended nor resting nor complete, and nobody wants to cancel or pause it."""
    submission: int
    standby_submission: int | None
    has_asked: bool


def is_standby(view: StandbyView, *, submission: int) -> bool:
    """Tell whether an attempt of this submission, which was refused its claim, stays as the run's standby."""
    return view.is_live and view.submission != submission and view.standby_submission == submission


def may_be_followed(market: str | None) -> bool:
    """Tell whether a standby may ask an attempt on this market for its run; None is a market that is not known."""
    return market == Market.ON_DEMAND


def gives_way(view: StandbyView, *, is_complete: bool) -> bool:
    """Tell whether the attempt that holds the run is now to save and yield. One that is complete just ends."""
    return view.has_asked and not is_complete


def next_step(
    view: StandbyView, *, submission: int, age_seconds: float, asked_seconds: float | None, evidence: Evidence
) -> StandbyStep:
    """Return what the standby of this submission does next.

    Args:
        view: The run now.
        submission: The standby's own number.
        age_seconds: How long it has had its machine.
        asked_seconds: Since it asked; None before.
        evidence: The ages that policy has set.
    """
    if not view.is_live:
        return StandbyStep.LEAVE
    if view.submission == submission:
        return StandbyStep.CLAIM
    if view.standby_submission != submission:
        return StandbyStep.LEAVE
    if age_seconds < evidence.age_seconds:
        return StandbyStep.WAIT
    if asked_seconds is None or not view.has_asked:
        return StandbyStep.ASK
    return StandbyStep.LEAVE if asked_seconds >= evidence.patience_seconds else StandbyStep.WAIT
