"""The command `spotkeeper pools`."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops import savings
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.pools import seen_pools
from spotkeeper.ops.savings_command import period_option
from spotkeeper.policy.pool_record import PoolRecord
from spotkeeper.policy.preemption_rate import FEWEST_EVENTS

_PLAIN_WIDTH: Final = 200
_ADVICE: Final = (
    "AWS Batch chooses the pool of a job by itself, among the instance types of its profile: to leave one out, or add "
    "one, change spot_instance_types in stacks/environments.py and deploy"
)


def pools(
    ctx: typer.Context,
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Runs created within so long; 30d by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show how often each pool (instance type and zone) took its machines, and what useful work cost there.

    spotkeeper pools --since 90d
    """
    now = datetime.now(UTC)
    period = period_option(since=since, month=None, now=now)
    connection: Connection = ctx.obj()
    runs, notes = savings.chosen_runs(connection, run_ids=(), period=period, team=None)
    found = seen_pools(runs, connection, now=now)
    notes = (*notes, *found.notes)
    if as_json:
        typer.echo(json.dumps({"pools": [plain(one) for one in found.pools], "notes": notes}, indent=2))
        return
    if not found.pools:
        typer.echo("no attempt on spot has said where it ran in this time")
        return
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    for column in ("INSTANCE TYPE", "ZONE"):
        table.add_column(column, no_wrap=True)
    for column in ("HOURS", "TAKEN", "TAKEN AN HOUR (90 %)", "USD/H", "USD/USEFUL H"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("BREAKER", "LATELY"):
        table.add_column(column, no_wrap=True)
    for one in found.pools:
        table.add_row(*(Text(cell) for cell in _cells(one)))
    console.print(table)
    console.print()
    for line in (
        f"insufficient data: fewer than {FEWEST_EVENTS} machines were taken. Hours count from the start of a container",
        *(f"{one.pool.instance_type} in {one.pool.availability_zone}: {one.breaker_reason}" for one in found.pools
          if one.breaker != "closed"),
        _ADVICE,
        *notes,
    ):  # fmt: skip
        console.print(Text(line))


def plain(one: PoolRecord) -> dict[str, Any]:
    """Return what `--json` prints of a pool."""
    told = asdict(one)
    return {**one.pool._asdict(), **{name: value for name, value in told.items() if name != "pool"},
            "is_rate_sufficient": one.rate.is_sufficient}  # fmt: skip


def _cells(one: PoolRecord) -> tuple[str, ...]:
    rate = one.rate
    said = f"{rate.per_hour:.2g} ({rate.low_per_hour:.2g} to {rate.high_per_hour:.2g})"
    return (
        *one.pool,
        f"{rate.exposure_hours:.1f}",
        str(rate.num_events),
        said if rate.is_sufficient else "insufficient data",
        "not known" if one.usd_per_hour is None else f"{one.usd_per_hour:.4f}",
        "not known" if one.usd_per_useful_hour is None else f"{one.usd_per_useful_hour:.4f}",
        one.breaker.value,
        one.regime_words,
    )
