"""What became of each attempt: where it ran, why it ended, which steps it did and which were lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from emulation.demo.attempt_logs import AttemptLog
from emulation.ec2.market import Instance, SpotMarket
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt
from spotkeeper.policy.savings import BilledTime


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One attempt."""

    attempt: Attempt
    """As the ledger tells it."""
    instance: Instance
    start_seconds: float
    """Since the run was submitted."""
    end_seconds: float
    first_step: int
    """Steps that were done when it began."""
    last_step: int
    """Steps that were done when it was last heard of."""
    committed_step: int
    """Steps that are in its newest checkpoint, or in the one it began with."""

    @property
    def lost_steps(self) -> int:
        """Steps that the next attempt has to do again, as far as progress was reported."""
        return 0 if self.attempt.cause == Cause.COMPLETED else max(0, self.last_step - self.committed_step)


def timeline(
    attempts: Sequence[Attempt],
    *,
    logs: Mapping[int, AttemptLog],
    instances: Sequence[Instance],
    submitted_at: datetime,
) -> tuple[Row, ...]:
    """Return a row for each attempt that claimed the run and ended.

    Args:
        attempts: From the ledger, of one submission.
        logs: By the attempt's number.
        instances: Of the market.
        submitted_at: Where the timeline begins.
    """
    by_id = {instance.id: instance for instance in instances}
    rows = []
    for attempt in attempts:
        if attempt.instance_id is None or attempt.started_at is None or attempt.stopped_at is None:
            continue
        log = logs[attempt.attempt]
        first = max([event["step"] for event in log.events(LogEvent.RESUMED)], default=0)
        steps = [event["step"] for event in log.events() if event.get("step") is not None]
        committed = [event["step"] for event in log.events(LogEvent.COMMITTED)]
        rows.append(
            Row(
                attempt=attempt,
                instance=by_id[attempt.instance_id],
                start_seconds=_seconds_between(submitted_at, attempt.started_at),
                end_seconds=_seconds_between(submitted_at, attempt.stopped_at),
                first_step=first,
                last_step=max([first, *steps]),
                committed_step=max([first, *committed]),
            )
        )
    return tuple(rows)


def billed(rows: Sequence[Row], market: SpotMarket) -> tuple[BilledTime, ...]:
    """Return each attempt's machine time, from the instance's launch to its end, with the prices of its pool."""
    return tuple(
        BilledTime(
            seconds=Decimal(str(round(row.instance.seconds(row.instance.ended_at or market.clock.now()), 3))),
            usd_per_hour=Decimal(str(row.instance.usd_per_hour)),
            on_demand_usd_per_hour=Decimal(str(market.usd_per_hour(row.instance.pool, "on-demand"))),
        )
        for row in rows
    )


def _seconds_between(start: datetime, end: str) -> float:
    return (datetime.fromisoformat(end) - start).total_seconds()
