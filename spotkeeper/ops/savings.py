"""What runs cost and saved: their attempts from the ledger, prices from EC2's record, use of time from their logs.

An attempt counts from the start of its container to its end. The start of its host before, and the idle minutes after,
are not in the ledger: they are on the bill, and in no figure here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from botocore.exceptions import ClientError

from spotkeeper.contract.ledger import LISTING_CLOSED, LISTING_OPEN
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt, Run
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.market_data.spot_history import KEPT_DAYS, EC2PriceHistory, NoPriceHistory, PriceHistory
from spotkeeper.ops.told_lines import told_lines
from spotkeeper.policy import attempt_use, run_account
from spotkeeper.policy.attempt_use import AttemptUse
from spotkeeper.policy.market import Market
from spotkeeper.policy.run_account import Machine, RunAccount
from spotkeeper.policy.savings import BilledTime
from spotkeeper.policy.savings_split import AttemptTime

MOST_RUNS: Final = 1000
"""Of each listing: open and ended runs, the newest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSavings:
    """A run and its account."""

    run: Run
    account: RunAccount


@dataclass(frozen=True, kw_only=True, slots=True)
class Savings:
    """Of several runs."""

    runs: tuple[RunSavings, ...]
    total: RunAccount
    notes: tuple[str, ...]
    """What is not known, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """From a moment until before another; a run belongs to the one in which it was created."""

    began_at: datetime
    ended_at: datetime

    def has(self, run: Run) -> bool:
        """Whether the run was created in it."""
        return self.began_at <= datetime.fromisoformat(run.created_at) < self.ended_at


def chosen_runs(
    connection: Connection, *, run_ids: Sequence[str], period: Period, team: str | None
) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Return the runs that are named, or those of a period, and what is to be said of the choice.

    Raises:
        UnknownRun: the ledger has none of such an id.
    """
    if run_ids:
        return tuple(connection.run_of(run_id) for run_id in run_ids), ()
    found: list[Run] = []
    notes = []
    for listing in (LISTING_OPEN, LISTING_CLOSED):
        listed = connection.ledger.list_runs(listing, MOST_RUNS)
        if len(listed) == MOST_RUNS and datetime.fromisoformat(listed[-1].created_at) >= period.began_at:
            notes.append(f"only the newest {MOST_RUNS} {listing} runs are counted: choose a shorter time")
        found += [run for run in listed if period.has(run) and team in (None, run.team)]
    return tuple(sorted(found, key=lambda run: run.created_at)), tuple(notes)


def savings_of(runs: Sequence[Run], connection: Connection, *, now: datetime) -> Savings:
    """Account for runs."""
    attempts = {run.run_id: had_machine(connection.ledger.attempts(run.run_id)) for run in runs}
    history, notes = price_history([one for of_run in attempts.values() for one in of_run], connection, now=now)
    found = tuple(
        RunSavings(run=run, account=account_of(run, attempts[run.run_id], connection, history, now=now)) for run in runs
    )
    return Savings(runs=found, total=run_account.total(one.account for one in found), notes=notes)


def line_of(run: Run, attempts: Sequence[Attempt], connection: Connection, *, now: datetime) -> str | None:
    """Return the account of one run in a line; None while it has had no machine."""
    of_run = had_machine(attempts)
    if not of_run:
        return None
    try:
        history, notes = price_history(of_run, connection, now=now)
        account = account_of(run, of_run, connection, history, now=now)
    except ClientError as error:
        # Nobody asked for it: what was asked for is shown already.
        return f"what it cost and saved is not known: {error.operation_name}: {error.response['Error']['Code']}"
    return "; ".join((run_account.sentence(account), *notes))


def had_machine(attempts: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """Return the attempts that had a machine, in the order in which they had the run."""
    started = [attempt for attempt in attempts if attempt.started_at is not None]
    return tuple(sorted(started, key=lambda one: (one.claimed_at or one.started_at or "", one.submission, one.attempt)))


def price_history(
    attempts: Sequence[Attempt], connection: Connection, *, now: datetime
) -> tuple[PriceHistory, tuple[str, ...]]:
    """Return what spot cost while attempts ran, and what is to be said of it."""
    on_spot = [one for one in attempts if one.market == Market.SPOT and one.instance_type and one.availability_zone]
    if not on_spot:
        return NoPriceHistory(), ()
    if connection.is_local:
        return NoPriceHistory(), ("the emulation has no history of spot prices",)
    began_at = min(moment(one.started_at) for one in on_spot if one.started_at is not None)
    try:
        history = EC2PriceHistory(
            connection.new_client("ec2"),
            instance_types={one.instance_type for one in on_spot if one.instance_type},
            began_at=max(began_at, now - timedelta(days=KEPT_DAYS)),
            ended_at=now,
        )
    except OperationError as error:
        return NoPriceHistory(), (str(error),)
    if began_at < now - timedelta(days=KEPT_DAYS):
        return history, (f"EC2 keeps spot prices for {KEPT_DAYS} days: older ones are not known",)
    return history, ()


def account_of(
    run: Run, attempts: Sequence[Attempt], connection: Connection, history: PriceHistory, *, now: datetime
) -> RunAccount:
    """Account for one run, of whose attempts each has had a machine."""
    uses = attempt_use.of_attempts(
        told_lines(attempt.log_stream, connection) if attempt.log_stream else () for attempt in attempts
    )
    machines, unpriced = [], []
    for number, attempt in enumerate(attempts):
        machine = _machine(run, attempt, uses[number] if uses else None, connection, history, now=now)
        if machine is None:
            unpriced.append(name_of(attempt))
        else:
            machines.append(machine)
    return run_account.account(machines, unpriced=unpriced, is_measured=uses is not None)


def _machine(
    run: Run,
    attempt: Attempt,
    use: AttemptUse | None,
    connection: Connection,
    history: PriceHistory,
    *,
    now: datetime,
) -> Machine | None:
    """Return an attempt's machine; None where not even its on-demand price is known."""
    assert attempt.started_at is not None
    started_at = moment(attempt.started_at)
    stopped_at = max(started_at, moment(attempt.stopped_at) if attempt.stopped_at else now)
    on_demand = on_demand_usd_per_hour(run, attempt, connection)
    if on_demand is None:
        return None
    market = Market(attempt.market or Market.SPOT)
    seconds = Decimal(str(round((stopped_at - started_at).total_seconds(), 3)))
    periods = None
    if market is Market.SPOT and attempt.instance_type and attempt.availability_zone:
        told = history.periods(
            attempt.instance_type, attempt.availability_zone, began_at=started_at, ended_at=stopped_at
        )
        if told is not None:
            periods = tuple(
                BilledTime(seconds=one.seconds, usd_per_hour=one.usd_per_hour, on_demand_usd_per_hour=on_demand)
                for one in told
            )
    return Machine(
        name=name_of(attempt),
        time=AttemptTime(
            market=market,
            periods=periods or (BilledTime(seconds=seconds, usd_per_hour=on_demand, on_demand_usd_per_hour=on_demand),),
            seconds={}
            if use is None
            else use.purposes(
                started_at=started_at.timestamp(),
                claimed_at=moment(attempt.claimed_at).timestamp() if attempt.claimed_at else None,
                stopped_at=stopped_at.timestamp(),
            ),
        ),
        was_taken=attempt.cause == Cause.INTERRUPTED,
        is_price_known=periods is not None or market is Market.ON_DEMAND,
    )


def on_demand_usd_per_hour(run: Run, attempt: Attempt, connection: Connection) -> Decimal | None:
    """Return the on-demand price of an attempt's machine; without a type, of the dearest of its profile."""
    profile = connection.ports.terms.profiles.get(run.profile)
    if profile is None:
        return None
    if attempt.instance_type is None:
        return profile.dearest_usd_per_hour(Market(attempt.market or Market.SPOT))
    return profile.usd_per_hour.get(attempt.instance_type)


def moment(text: str) -> datetime:
    """Return a time of the ledger."""
    told = datetime.fromisoformat(text)
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def name_of(attempt: Attempt) -> str:
    """Return what people call an attempt: its run, and `2.1` for the first of the second submission."""
    return f"{attempt.run_id} {attempt.submission}.{attempt.attempt}"
