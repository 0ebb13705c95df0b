"""What runs cost and saved: their attempts from the ledger, prices from EC2's record, use of time from their logs.

An attempt counts from the start of its container to its end. The start of its host before, and the idle minutes after,
are not in the ledger: they are on the bill, and in no figure here. What SageMaker bills is in the ledger, and counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract import training
from spotkeeper.contract.ledger import LISTING_CLOSED, LISTING_OPEN
from spotkeeper.control.aws.spot_prices import KEPT_DAYS, EC2SpotPrices
from spotkeeper.control.classify import Cause
from spotkeeper.control.ports import NotAllowed
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.spot_prices import NoPriceHistory, PriceHistory, machine_time, moment
from spotkeeper.control.training_bill import billed_seconds
from spotkeeper.ops import training_logs
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.told_lines import told_lines, told_on_sagemaker
from spotkeeper.policy import attempt_use, run_account
from spotkeeper.policy.attempt_use import AttemptUse
from spotkeeper.policy.market import Market
from spotkeeper.policy.run_account import Machine, RunAccount
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
    types = {one.instance_type for one in on_spot if one.instance_type}
    try:
        history = EC2SpotPrices(lambda: connection.client("ec2")).read(types, began_at=began_at, ended_at=now)
    except NotAllowed as error:
        return NoPriceHistory(), (str(error),)
    if began_at < now - timedelta(days=KEPT_DAYS):
        return history, (f"EC2 keeps spot prices for {KEPT_DAYS} days: older ones are not known",)
    return history, ()


def account_of(
    run: Run, attempts: Sequence[Attempt], connection: Connection, history: PriceHistory, *, now: datetime
) -> RunAccount:
    """Account for one run, of whose attempts each has had a machine."""
    uses = attempt_use.of_attempts(_told(run, attempts, connection))
    billed = billed_seconds(attempts, now=now)
    machines, unpriced = [], []
    for number, attempt in enumerate(attempts):
        use, of_attempt = uses[number] if uses else None, billed.get((attempt.submission, attempt.attempt))
        machine = _machine(run, attempt, use, connection, history, now=now, billed_seconds=of_attempt)
        if machine is None:
            unpriced.append(name_of(attempt))
        else:
            machines.append(machine)
    return run_account.account(machines, unpriced=unpriced, is_measured=uses is not None)


def _told(run: Run, attempts: Sequence[Attempt], connection: Connection) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield the structured lines of each attempt."""
    if not training.is_queue(run.job_queue):
        for attempt in attempts:
            yield told_lines(attempt.log_stream, connection) if attempt.log_stream else ()
        return
    try:
        yield from _told_on_sagemaker(run, attempts, connection)
    except ClientError as error:
        # `SubmitPolicy` alone does not allow it: other runs are accounted for all the same, and of this one the cost.
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise


def _told_on_sagemaker(
    run: Run, attempts: Sequence[Attempt], connection: Connection
) -> tuple[Sequence[dict[str, Any]], ...]:
    node = training_logs.FIRST_NODE
    ends = {(attempt.submission, attempt.attempt): attempt.stopped_at for attempt in attempts}
    streams = training_logs.streams(run, ends, connection.logs, node=node)
    return tuple(
        [
            line
            for stream in streams[attempt.submission, attempt.attempt].get(node, ())
            for line in told_on_sagemaker(stream, connection)
        ]
        for attempt in attempts
    )


def _machine(
    run: Run,
    attempt: Attempt,
    use: AttemptUse | None,
    connection: Connection,
    history: PriceHistory,
    *,
    now: datetime,
    billed_seconds: Decimal | None,
) -> Machine | None:
    """Return an attempt's machines; None where not even their on-demand price is known."""
    time = machine_time(run, attempt, connection.ports.terms, history, now=now, billed_seconds=billed_seconds)
    if time is None:
        return None
    purposes = (
        use.purposes(
            started_at=time.began_at.timestamp(),
            claimed_at=moment(attempt.claimed_at).timestamp() if attempt.claimed_at else None,
            stopped_at=time.ended_at.timestamp(),
        )
        if use is not None
        else {}
    )
    return Machine(
        name=name_of(attempt),
        time=AttemptTime(
            market=time.market,
            periods=time.periods,
            # Nodes do everything together: what one was used for, each was.
            seconds={purpose: seconds * run.num_nodes for purpose, seconds in purposes.items()},
        ),
        was_taken=attempt.cause == Cause.INTERRUPTED,
        is_price_known=time.is_price_known,
        is_ec2=not training.is_queue(run.job_queue),
    )


def name_of(attempt: Attempt) -> str:
    """Return what people call an attempt: its run, and `2.1` for the first of the second submission."""
    return f"{attempt.run_id} {attempt.submission}.{attempt.attempt}"
