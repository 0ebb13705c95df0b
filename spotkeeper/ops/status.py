"""What is known of a run, gathered and shown."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.checkpoint_layout import commit_prefix, parse_manifest_key
from spotkeeper.contract.ledger import LISTING_CLOSED, LISTING_OPEN
from spotkeeper.control import reserve
from spotkeeper.control.budget import Budget, Cap
from spotkeeper.control.run import Attempt, HistoryEvent, Run
from spotkeeper.ops import reason
from spotkeeper.ops.budgets import NO_SPOT, limit_text, run_limits
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.elapsed import elapsed
from spotkeeper.policy.money import format_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointSummary:
    """The newest committed checkpoint of a run."""

    epoch: int
    step: int
    committed_at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """Everything known of one run."""

    run: Run
    attempts: tuple[Attempt, ...]
    checkpoint: CheckpointSummary | None
    history: tuple[HistoryEvent, ...]
    budget: Budget
    """What it may spend; of a run that has reserved nothing yet, as it was submitted."""
    counts_spot: bool
    """Whether the total of its budget has what it spends on spot in it."""


def plain(value: Run | RunStatus) -> dict[str, Any]:
    """Return plain values, for programs."""
    return asdict(value)


def status_of(run_id: str, connection: Connection, *, now: str) -> RunStatus:
    """Gather what ledger and bucket know of a run.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    run = connection.run_of(run_id)
    return RunStatus(
        run=run,
        attempts=connection.ledger.attempts(run_id),
        checkpoint=_newest_mirrored(run_id, connection) if run.is_isolated else _newest_checkpoint(run_id, connection),
        history=connection.ledger.history(run_id),
        budget=connection.budgets.get(run_holder(run_id)) or run_limits(run).open(run_holder(run_id)),
        counts_spot=reserve.leases_spot(run, ports=connection.ports, now=now),
    )


def recent_runs(connection: Connection, limit: int) -> tuple[Run, ...]:
    """Return the open runs, then the closed ones, newest first, at most `limit` of each."""
    return (*connection.ledger.list_runs(LISTING_OPEN, limit), *connection.ledger.list_runs(LISTING_CLOSED, limit))


def _newest_checkpoint(run_id: str, connection: Connection) -> CheckpointSummary | None:
    pages = connection.s3.get_paginator("list_objects_v2").paginate(
        Bucket=connection.descriptor.checkpoint_bucket, Prefix=commit_prefix(run_id)
    )
    found = [
        (position, stored["LastModified"])
        for page in pages
        for stored in page.get("Contents", [])
        if (position := parse_manifest_key(stored["Key"])) is not None
    ]
    if not found:
        return None
    (epoch, step), committed_at = max(found)
    return CheckpointSummary(epoch=epoch, step=step, committed_at=committed_at.isoformat())


def _newest_mirrored(run_id: str, connection: Connection) -> CheckpointSummary | None:
    """Return the newest checkpoint of which everything has arrived: the run can go on from no other."""
    mirrors = connection.ports.mirrors
    newest = mirrors.newest_whole(run_id) if mirrors is not None else None
    return CheckpointSummary(epoch=newest.epoch, step=newest.step, committed_at=newest.at) if newest else None


def show_runs(runs: tuple[Run, ...], console: Console, *, now: datetime, pasteable: Callable[[str], str] = str) -> None:
    """Print a table of runs; `pasteable` puts their hints as they have to be typed."""
    table = Table(box=None, pad_edge=False)
    for column in ("RUN", "STATE", "TEAM", "PROFILE", "MARKET", "EPOCH", "AGE", "REASON"):
        table.add_column(column, overflow="fold", no_wrap=column not in ("RUN", "REASON"))
    for run in runs:
        age = elapsed(run.created_at, now)
        why = pasteable(reason.reason(run, now=now) or "")
        _add_row(table, run.run_id, reason.state_word(run), run.team, run.profile, run.market, run.epoch, age, why)
    console.print(table)


def show_status(status: RunStatus, console: Console, *, now: datetime, pasteable: Callable[[str], str] = str) -> None:
    """Print one run with its attempts; `pasteable` puts hints as they have to be typed."""
    run = status.run
    table = Table(box=None, show_header=False, pad_edge=False)
    _add_row(table, "run", run.run_id)
    _add_row(table, "state", pasteable(reason.state(run, now=now)))
    _add_row(table, "command", " ".join(run.command))
    _add_row(table, "where", f"{run.profile}, {run.market}, team {run.team}, environment {run.environment}")
    _add_row(table, "created", f"{run.created_at} ({elapsed(run.created_at, now)} ago)")
    for name, value in (
        ("priority", run.priority),
        ("sweep", run.sweep),
        ("waits until", run.wait_until),
        ("ended", run.closed_at),
    ):
        if value is not None:
            _add_row(table, name, value)
    if status.checkpoint is not None:
        age = elapsed(status.checkpoint.committed_at, now)
        _add_row(
            table, "checkpoint", f"step {status.checkpoint.step}, fencing epoch {status.checkpoint.epoch}, {age} old"
        )
    else:
        _add_row(table, "checkpoint", "none yet")
    if run.standby_submission is not None:
        _add_row(table, "standby", _standby(run))
    _add_row(table, "on-demand cost", _money(status.budget.fallback))
    _add_row(table, "total cost", _money(status.budget.total) + ("" if status.counts_spot else f"; {NO_SPOT}"))
    for event in status.history:
        _add_row(table, event.kind, f"{event.at}: {event.message}")
    console.print(table)
    if status.attempts:
        console.print()
        console.print(_attempts_table(status.attempts, now))


def _standby(run: Run) -> str:
    said = f"submission {run.standby_submission} on spot"
    if run.handover_asked_at is not None:
        return f"{said} asked for the run at {run.handover_asked_at}"
    if run.standby_ready_at is not None:
        return f"{said} has had a machine since {run.standby_ready_at}"
    return f"{said} waits for a machine"


def _money(cap: Cap) -> str:
    return f"{format_usd(cap.spent)} spent, {format_usd(cap.reserved)} reserved, cap {limit_text(cap.limit)}"


def _attempts_table(attempts: tuple[Attempt, ...], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("ATTEMPT", "STARTED", "RAN", "POOL", "MARKET", "EPOCH", "CAUSE"):
        table.add_column(column, overflow="fold")
    for attempt in attempts:
        pool = "/".join(part for part in (attempt.instance_type, attempt.availability_zone) if part)
        ran = None
        if attempt.started_at is not None:
            ran = elapsed(attempt.started_at, datetime.fromisoformat(attempt.stopped_at) if attempt.stopped_at else now)
        number = f"{attempt.submission}.{attempt.attempt}"
        cause = attempt.cause or "running"
        _add_row(table, number, attempt.started_at, ran, pool, attempt.market, attempt.epoch, cause)
    return table


def _add_row(table: Table, *cells: object) -> None:
    # Text, so that brackets in a program's words are not read as markup.
    table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
