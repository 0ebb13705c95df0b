"""The commands `spotkeeper budget` and `spotkeeper fallback`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.control.budget import Budget, Switch
from spotkeeper.ops import budgets, fallback
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.invocation import pasteable
from spotkeeper.policy.money import format_usd

_WIDTH = 200
"""Columns of a table: amounts are compared, not wrapped."""

budget_app = typer.Typer()
fallback_app = typer.Typer(no_args_is_help=True, help="Switch on-demand off and on, for the whole environment.")

_Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Of this run.")]
_Team = Annotated[str | None, typer.Option("--team", help="Of this team, this month.")]
_Sweep = Annotated[str | None, typer.Option("--sweep", help="Of this sweep.")]


@budget_app.callback(invoke_without_command=True)
def show(
    ctx: typer.Context,
    *,
    run: _Run = None,
    team: _Team = None,
    sweep: _Sweep = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, amounts in micro-dollars.")] = False,
) -> None:
    """Show limit, reserved, spent and left of both caps: of environment and teams this month, or of one holder.

    spotkeeper budget --run train-7fq2a1
    """
    if ctx.invoked_subcommand is not None:
        if run or team or sweep:
            raise ValueError(f"options of a holder come after {ctx.invoked_subcommand!r}")
        return
    connection: Connection = ctx.obj()
    now = _now()
    holder = _holder(connection, run=run, team=team, sweep=sweep, now=now)
    holders = (holder,) if holder is not None else budgets.this_month(connection, now=now)
    found = [(one, budgets.budget_of(one, connection)) for one in holders]
    if as_json:
        typer.echo(json.dumps([asdict(budget) for _, budget in found], indent=2))
        return
    _print(found)
    switch = connection.budgets.switch()
    if switch.is_off:
        told = f"on-demand is switched off: {switch.reason}; `spotkeeper fallback on` switches it on"
        typer.echo(pasteable(ctx, told), err=True)


@budget_app.command("set")
def set_(
    ctx: typer.Context,
    *,
    run: _Run = None,
    team: _Team = None,
    sweep: _Sweep = None,
    environment: Annotated[
        bool, typer.Option("--this-environment", help="Of the environment, this month only: its settings say the next.")
    ] = False,
    fallback_cap: Annotated[
        str | None, typer.Option(metavar="USD", help="Most for on-demand, such as 40; or unlimited.")
    ] = None,
    total_cap: Annotated[
        str | None, typer.Option(metavar="USD", help="Most for spot and on-demand; or unlimited.")
    ] = None,
) -> None:
    """Set caps; a run that was parked for money goes on.

    spotkeeper budget set --run train-7fq2a1 --fallback-cap 40
    """
    connection: Connection = ctx.obj()
    now = _now()
    holder = _holder(connection, run=run, team=team, sweep=sweep, environment=environment, now=now)
    if holder is None:
        raise ValueError("whose caps? give one of --run RUN, --team TEAM, --sweep NAME, --this-environment")
    _print([(holder, budgets.set_caps(holder, connection, fallback=fallback_cap, total=total_cap))])
    typer.echo(pasteable(ctx, budgets.let_go_on(holder, connection, now=now)), err=True)


@fallback_app.command()
def off(
    ctx: typer.Context, *, reason: Annotated[str, typer.Option(help="Why, for whoever finds it switched off.")] = ""
) -> None:
    """Switch on-demand off: nothing is reserved there any more, and jobs that run there save and stop."""
    turned = fallback.off(reason, ctx.obj())
    typer.echo(_told(turned.switch))
    for run_id in turned.stopped:
        typer.echo(f"{run_id}: its job on on-demand is stopping, and saves")
    for run_id in turned.left:
        typer.echo(f"{run_id}: not reached just now")
    typer.echo("the sweeper stops within five minutes what may still run on on-demand", err=True)


@fallback_app.command()
def on(ctx: typer.Context) -> None:
    """Switch on-demand on again."""
    typer.echo(_told(fallback.on(ctx.obj())))


def _told(switch: Switch) -> str:
    return f"on-demand is off: {switch.reason}" if switch.is_off else "on-demand is on, within the caps"


def _holder(
    connection: Connection,
    *,
    run: str | None,
    team: str | None,
    sweep: str | None,
    now: str,
    environment: bool = False,
) -> budgets.Holder | None:
    if sum((run is not None, team is not None, sweep is not None, environment)) > 1:
        raise ValueError("one holder at a time: give one of --run, --team, --sweep, --this-environment")
    if run is not None:
        return budgets.run(run, connection, now=now)
    if team is not None:
        return budgets.team(team, connection, now=now)
    if sweep is not None:
        return budgets.sweep(sweep, connection)
    return budgets.environment(connection, now=now) if environment else None


def _print(found: list[tuple[budgets.Holder, Budget]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("HOLDER", "CAP"):
        table.add_column(column, no_wrap=True)
    for column in ("LIMIT", "RESERVED", "SPENT", "LEFT"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for holder, budget in found:
        for name, cap in (("on-demand", budget.fallback), ("total", budget.total)):
            limit = budgets.limit_text(cap.limit)
            left = limit if limit == budgets.UNLIMITED else format_usd(cap.available)
            note = holder.missing_spot if cap is budget.total else ""
            cells = (budget.holder, name, limit, format_usd(cap.reserved), format_usd(cap.spent), left, note)
            table.add_row(*(Text(cell) for cell in cells))
    Console(width=_WIDTH).print(table)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
