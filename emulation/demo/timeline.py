"""What became of each attempt: where it ran, why it ended, which steps it did and which were lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emulation.demo.attempt_logs import AttemptLog
from emulation.ec2.market import Instance
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt

_TRAINS = (LogEvent.STARTED, LogEvent.RESUMED, LogEvent.PROGRESS, LogEvent.COMMITTED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One attempt."""

    attempt: Attempt
    """As the ledger tells it."""
    instance: Instance
    start_seconds: float
    """Since the run was submitted."""
    claim_seconds: float | None
    """When the run became its own, likewise; None: it never did."""
    end_seconds: float
    first_step: int
    """Steps that were done when it began."""
    last_step: int
    """Steps that were done when it was last heard of."""
    committed_step: int
    """Steps that are in its newest checkpoint, or in the one it began with."""
    stood_by: bool = False
    """It waited as the standby of its run."""
    told: tuple[dict[str, Any], ...] = ()
    """Its structured lines, with the time of each."""
    trained_unclaimed: bool = False
    """It was heard training before the run was its own. That must not be."""

    @property
    def name(self) -> str:
        """`2.1`: the first attempt of the second submission."""
        return f"{self.attempt.submission}.{self.attempt.attempt}"

    @property
    def lost_steps(self) -> int:
        """Steps that the next attempt has to do again, as far as progress was reported."""
        return 0 if self.attempt.cause == Cause.COMPLETED else max(0, self.last_step - self.committed_step)


def timeline(
    attempts: Sequence[Attempt], *, logs: Mapping[tuple[int, int], AttemptLog], submitted_at: datetime
) -> tuple[Row, ...]:
    """Return a row for each attempt that started and ended, in order.

    Args:
        attempts: From the ledger.
        logs: By submission and the attempt's number.
        submitted_at: Where the timeline begins.
    """
    rows = []
    for attempt in attempts:
        log = logs.get((attempt.submission, attempt.attempt))
        if log is None or attempt.started_at is None or attempt.stopped_at is None:
            continue
        events = log.events()
        names = [event["event"] for event in events]
        first = max([event["step"] for event in log.events(LogEvent.RESUMED)], default=0)
        steps = [event["step"] for event in events if event.get("step") is not None]
        committed = [event["step"] for event in log.events(LogEvent.COMMITTED)]
        claimed_at = attempt.claimed_at
        before_claim = names[: names.index(LogEvent.CLAIMED)] if LogEvent.CLAIMED in names else names
        rows.append(
            Row(
                attempt=attempt,
                instance=log.instance,
                start_seconds=_seconds_between(submitted_at, attempt.started_at),
                claim_seconds=None if claimed_at is None else _seconds_between(submitted_at, claimed_at),
                end_seconds=_seconds_between(submitted_at, attempt.stopped_at),
                first_step=first,
                last_step=max([first, *steps]),
                committed_step=max([first, *committed]),
                told=log.told_lines(),
                stood_by=LogEvent.STANDBY in names,
                trained_unclaimed=any(name in _TRAINS for name in before_claim),
            )
        )
    return tuple(rows)


def _seconds_between(start: datetime, end: str) -> float:
    return (datetime.fromisoformat(end) - start).total_seconds()
