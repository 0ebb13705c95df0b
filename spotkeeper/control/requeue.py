"""The decision what follows a job that ended without completing its run. Pure: every fact is an argument.

Five budgets, kept apart so that none eats another's:

interruptions   AWS took the machine, or the attempt handed over: again, without limit while the committed step
                advances; parked after MAX_STALLS submissions in a row that brought no newer checkpoint
capacity        AWS had no machine: again after a wait that doubles, up to an hour, without end, and visible with its
                reason. Where `choice` knows of another place at once, there is no wait, and none is counted
the user's word  at once, whatever was before, and no count changes
money           a cap of this month is used up: again after a wait, for it may be raised, and is new next month
own failures    the program or its image is broken: not repeated, machines are paid for

What only a person can mend is parked: the run keeps its checkpoints and goes on with `spotkeeper resume`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from spotkeeper.control.classify import Cause, Ending
from spotkeeper.control.run import Lack

MAX_STALLS: Final = 3
"""Each is up to ten attempts of Batch."""
FIRST_WAIT_SECONDS: Final = 300
"""One period of the sweeper, which ends every wait."""
LONGEST_WAIT_SECONDS: Final = 3600


class Budget(StrEnum):
    """What a way to end counts against."""

    INTERRUPTIONS = "interruptions"
    STARTS = "starts"
    """As interruptions, but another machine at once would only fail again: it waits first."""
    CAPACITY = "capacity"
    MONTH = "month"
    """A cap of the month, of a team or the environment."""
    OWN_FAILURES = "own-failures"
    PERSON = "person"
    WISH = "wish"
    """The user wanted it so: again at once, and it counts against nothing."""


BUDGETS: Final[Mapping[Cause, Budget]] = MappingProxyType(
    {
        Cause.INTERRUPTED: Budget.INTERRUPTIONS,
        Cause.HOST_LOST: Budget.INTERRUPTIONS,
        Cause.YIELDED: Budget.INTERRUPTIONS,
        Cause.TIMED_OUT: Budget.INTERRUPTIONS,
        Cause.PAUSED: Budget.INTERRUPTIONS,  # and resumed before its job had stopped
        Cause.FENCED: Budget.INTERRUPTIONS,
        Cause.REPRIORITIZED: Budget.WISH,
        Cause.TWIN: Budget.INTERRUPTIONS,
        Cause.STANDBY: Budget.INTERRUPTIONS,  # and taken over by the run at that moment
        Cause.SWITCHED_OFF: Budget.INTERRUPTIONS,
        Cause.UNKNOWN: Budget.INTERRUPTIONS,
        Cause.COULD_NOT_START: Budget.STARTS,
        Cause.NO_CAPACITY: Budget.CAPACITY,
        Cause.OVER_MONTH: Budget.MONTH,
        Cause.FAILED: Budget.OWN_FAILURES,
        Cause.OUT_OF_MEMORY: Budget.OWN_FAILURES,
        Cause.NO_SUCH_IMAGE: Budget.OWN_FAILURES,
        Cause.INCOMPLETE: Budget.OWN_FAILURES,
        Cause.REFUSED: Budget.OWN_FAILURES,
        Cause.COMPLETED: Budget.OWN_FAILURES,  # exit 0 without a completion record
        # Somebody stopped the job past Spotkeeper: neither fight them nor throw the run away.
        Cause.TERMINATED: Budget.PERSON,
        Cause.OVER_BUDGET: Budget.PERSON,
        Cause.CANCELLED: Budget.PERSON,
        Cause.MISCONFIGURED: Budget.PERSON,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """How the run fared before this job, and what this job brought."""

    had_attempts: bool
    """The job was given a machine."""
    newest_step: int | None
    """Newest committed step now."""
    committed_step: int | None
    """The same when the job before this one ended; None: no checkpoint then."""
    num_stalls: int
    num_capacity_waits: int

    @property
    def has_progressed(self) -> bool:
        """Whether there is a newer checkpoint than before."""
        return self.newest_step is not None and (self.committed_step is None or self.newest_step > self.committed_step)


class Action(StrEnum):
    """What to do with the run."""

    REQUEUE = "requeue"
    WAIT = "wait"
    PARK = "park"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do, why, and the counts from which the next decision is made."""

    action: Action
    reason: str
    wait_until: str | None = None
    """ISO 8601; with WAIT only."""
    lacks: Lack | None = None
    """For want of what it waits, or is parked."""
    num_stalls: int = 0
    num_capacity_waits: int = 0
    """Those before: a wait is counted when the run does wait."""


def decide(ending: Ending, history: History, *, now: str) -> Decision:
    """Return what follows a job that ended this way. `now` is ISO 8601, UTC."""
    budget = BUDGETS[ending.cause]
    stalls = 0 if history.has_progressed else history.num_stalls
    match budget:
        case Budget.OWN_FAILURES:
            return Decision(action=Action.FAIL, reason=ending.words)
        case Budget.PERSON:
            lacks = Lack.MONEY if ending.cause is Cause.OVER_BUDGET else None
            return Decision(action=Action.PARK, reason=ending.words, lacks=lacks, num_stalls=stalls)
        case Budget.WISH:
            return Decision(
                action=Action.REQUEUE,
                reason=ending.words,
                num_stalls=stalls,
                num_capacity_waits=0 if history.had_attempts else history.num_capacity_waits,
            )
        case Budget.MONTH:
            return Decision(
                action=Action.WAIT,
                reason=ending.words,
                wait_until=after(now, 0),
                lacks=Lack.MONEY,
                num_stalls=stalls,
            )
        case Budget.CAPACITY:
            # A job that had a machine ends the row of waits: capacity was there.
            waits = 0 if history.had_attempts else history.num_capacity_waits
            return Decision(
                action=Action.WAIT,
                reason=ending.words,
                wait_until=after(now, waits),
                lacks=Lack.CAPACITY,
                num_stalls=stalls,
                num_capacity_waits=waits,
            )
        case Budget.INTERRUPTIONS | Budget.STARTS:
            return _go_on(ending, history, budget, now)


def _go_on(ending: Ending, history: History, budget: Budget, now: str) -> Decision:
    if history.has_progressed:
        stalls = 0
        reason = f"{ending.words}; committed up to step {history.newest_step}"
    else:
        stalls = history.num_stalls + 1
        reason = f"{ending.words}; no newer checkpoint in {stalls} of at most {MAX_STALLS} submissions"
    if stalls >= MAX_STALLS:
        return Decision(action=Action.PARK, reason=reason, num_stalls=stalls)
    if budget is Budget.STARTS:
        return Decision(action=Action.WAIT, reason=reason, wait_until=after(now, stalls), num_stalls=stalls)
    return Decision(action=Action.REQUEUE, reason=reason, num_stalls=stalls)


def after(now: str, num_waits_before: int) -> str:
    """Return until when to wait after so many waits in a row: twice as long each time, an hour at most."""
    # The exponent is capped too: after weeks without capacity 2**n would be a very long number.
    seconds = min(FIRST_WAIT_SECONDS * 2 ** min(num_waits_before, 10), LONGEST_WAIT_SECONDS)
    return (datetime.fromisoformat(now) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
