"""The command `spotkeeper savings`."""

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.contract import training
from spotkeeper.ops import savings as accounting
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.duration import duration_option
from spotkeeper.ops.savings import Period, Savings
from spotkeeper.policy.money import format_usd
from spotkeeper.policy.run_account import RunAccount, what_limits
from spotkeeper.policy.savings_split import SavingsSplit

_PLAIN_WIDTH: Final = 200
_LONGEST_SECONDS: Final = 366 * 86400
_DEFAULT: Final = "30d"


def savings(
    ctx: typer.Context,
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="These runs alone.")] = None,
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Runs created within so long; 30d by default.")
    ] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Runs created in this month (UTC).")] = None,
    team: Annotated[str | None, typer.Option(help="Of this team alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, amounts in micro-dollars.")] = False,
) -> None:
    """Show what runs cost, what the same work would have cost on demand, and where the difference went.

    spotkeeper savings --since 7d --team research
    """
    now = datetime.now(UTC)
    if run and (since or month or team):
        raise ValueError("runs that are named are not chosen by time or team: leave out --since, --month and --team")
    period = period_option(since=since, month=month, now=now)
    connection: Connection = ctx.obj()
    runs, notes = accounting.chosen_runs(connection, run_ids=run or (), period=period, team=team)
    found = accounting.savings_of(runs, connection, now=now)
    if as_json:
        typer.echo(json.dumps(plain(found, notes), indent=2))
        return
    _show(found, (*notes, *found.notes))


def period_option(*, since: str | None, month: str | None, now: datetime) -> Period:
    """Return the period of the options.

    Raises:
        ValueError: naming the option, the value and what is allowed.
    """
    if month is None:
        seconds = duration_option(since or _DEFAULT, option="--since", at_least=1, at_most=_LONGEST_SECONDS)
        return Period(began_at=now - timedelta(seconds=seconds), ended_at=now)
    if since is not None:
        raise ValueError("give --since or --month, not both")
    try:
        began_at = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"--month must be a year and a month, such as 2026-11, got {month!r}") from None
    return Period(began_at=began_at, ended_at=(began_at + timedelta(days=32)).replace(day=1))


def plain(found: Savings, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what `--json` prints: amounts in whole micro-dollars, shares of the on-demand reference."""
    return {
        "runs": [{"run_id": one.run.run_id, "team": one.run.team, **_plain(one.account)} for one in found.runs],
        "total": _plain(found.total),
        "notes": [*notes, *found.notes],
    }


def _plain(account: RunAccount) -> dict[str, Any]:
    split = account.split
    return {
        "num_attempts": account.num_attempts,
        "machine_seconds": float(account.machine_seconds),
        "useful_seconds": None if account.useful_seconds is None else float(account.useful_seconds),
        "spent_microusd": account.spent_microusd,
        "is_upper_bound": account.is_upper_bound and not account.unpriced,
        "machine_on_demand_microusd": account.machine_on_demand_microusd,
        "fallback_seconds": float(account.fallback_seconds),
        "fallback_microusd": account.fallback_microusd,
        "maybe_free_microusd": account.maybe_free_microusd,
        "attempts_at_on_demand_price": list(account.bounded),
        "attempts_without_price": list(account.unpriced),
        "split": None
        if split is None
        else {
            "spent_microusd": split.spent_microusd,
            "on_demand_microusd": split.reference_microusd,
            "theoretical_microusd": split.theoretical_microusd,
            "effective": split.effective,
            "theoretical": split.theoretical if account.is_possible_known else None,
            "capture_ratio": split.capture_ratio if account.is_possible_known else None,
            "waste_microusd": {name.name.lower(): part for name, part in split.waste_microusd.items()},
        },
    }


def _show(found: Savings, notes: tuple[str, ...]) -> None:
    if not found.runs:
        typer.echo("no runs in this time")
        return
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("RUN", overflow="fold")
    for column in ("COST", "ON DEMAND", "SAVED", "POSSIBLE", "CAPTURED", "MACHINE H", "USEFUL H", "FALLBACK H"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found.runs:
        table.add_row(*(Text(cell) for cell in (one.run.run_id, *_cells(one.account))))
    table.add_row(*(Text(cell) for cell in ("all", *_cells(found.total))), style="bold")
    console.print(table)
    split = found.total.split
    if split is not None:
        console.print()
        console.print(_waste(split, price=_price_of_the_work(found)))
    console.print()
    for line in (*_limits(found), *notes):
        console.print(Text(line))


def _cells(account: RunAccount) -> tuple[str, ...]:
    split = account.split
    cost = ("≤ " if account.is_upper_bound else "") + format_usd(account.spent_microusd)
    if account.unpriced:
        cost += " + ?"
    cells = (
        ("not measured" if account.useful_seconds is None else "not known", "", "", "")
        if split is None
        else (
            format_usd(split.reference_microusd),
            ("≥ " if account.is_upper_bound else "") + _percent(split.effective),
            _percent(split.theoretical) if account.is_possible_known else "not known",
            _percent(split.capture_ratio) if account.is_possible_known else "not known",
        )
    )
    useful = "-" if account.useful_seconds is None else _hours(account.useful_seconds)
    return (cost, *cells, _hours(account.machine_seconds), useful, _hours(account.fallback_seconds))


def _price_of_the_work(found: Savings) -> str:
    """Name the price at which the work and one start count in the split: SageMaker publishes none of spot."""
    splits = [(one.account.split, one.run) for one in found.runs if one.account.split is not None]
    services = {training.is_queue(run.job_queue) for split, run in splits if split.was_on_spot}
    told = {False: "the mean spot price", True: "SageMaker's mean bill for an hour on spot"}
    prices = [told[is_sagemaker] for is_sagemaker in sorted(services)]
    if not all(split.was_on_spot for split, _ in splits):
        prices.append("the on-demand price where a run was never on spot")
    return ", or ".join(prices) + (", on-demand's where none is known" if found.total.is_upper_bound else "")


def _waste(split: SavingsSplit, *, price: str) -> Table:
    """Return the way from the theoretical cost to what was paid, which adds up to the micro-dollar."""
    table = Table(box=None, pad_edge=False)
    table.add_column("WHERE IT WENT", overflow="fold")
    table.add_column("USD", justify="right", no_wrap=True)
    table.add_row(f"the work and one start, at {price}", format_usd(split.theoretical_microusd))
    for waste, microusd in split.waste_microusd.items():
        if microusd:
            table.add_row(Text(waste.value), format_usd(microusd))
    table.add_row("paid", format_usd(split.spent_microusd), style="bold")
    return table


def _limits(found: Savings) -> list[str]:
    total, said = found.total, []
    if total.split is not None:
        said.append(what_limits(total.split))
    measured = sum(one.account.split is not None for one in found.runs)
    if measured < len(found.runs):
        without = [one.run.run_id for one in found.runs if one.account.split is None]
        said.append(
            f"savings are those of {measured} of {len(found.runs)} runs; of the others no counters or no price is "
            f"known, or their log may not be read, and only their cost is told: {', '.join(without)}"
        )
    if total.bounded:
        said.append(
            f"≤: what {len(total.bounded)} attempts cost on spot is not known, or not yet (SageMaker tells it once a "
            "job has ended): they are counted at the on-demand price, cost less, and saved more"
        )
    if total.unpriced:
        said.append(
            f"?: no price at all is known of {', '.join(total.unpriced)}: in no sum; state that of their type in "
            "`on_demand_prices_usd`"
        )
    if total.fallback_microusd:
        said.append(f"on-demand fallback: {_hours(total.fallback_seconds)} h, {format_usd(total.fallback_microusd)}")
    if total.maybe_free_microusd:
        said.append(
            f"up to {format_usd(total.maybe_free_microusd)} of it may not be billed: EC2 took the machines within "
            "their first hour"
        )
    said.append(
        "counted from the start of each container to its end, on SageMaker as much as it bills: starts of hosts on AWS "
        "Batch and idle minutes are not in it"
    )
    return said


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _hours(seconds: Decimal) -> str:
    return f"{seconds / 3600:.2f}"
