"""The commands `spotkeeper dead-letters`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops import dead_letters

_WIDTH = 240
"""Columns of a table: ids are copied, not wrapped."""

app = typer.Typer(no_args_is_help=True, help="Events that could not be handled, of the whole environment.")


@app.command("list")
def show(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the messages' bodies.")] = False,
) -> None:
    """List them, with what is known of the reason."""
    letters = dead_letters.read(ctx.obj())
    if as_json:
        typer.echo(json.dumps([asdict(letter) for letter in letters], indent=2))
        return
    if not letters:
        typer.echo("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("MESSAGE", "SENT", "QUEUE", "EVENT", "ABOUT", "REASON"):
        table.add_column(column, overflow="fold", no_wrap=column == "MESSAGE")
    for letter in letters:
        cells = (letter.message_id, letter.sent_at, letter.queue, letter.event, letter.about, letter.reason)
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=_WIDTH).print(table)


@app.command()
def redrive(
    ctx: typer.Context,
    message: Annotated[
        list[str] | None, typer.Option("--message", metavar="MESSAGE", help="Only this one. Repeatable.")
    ] = None,
) -> None:
    """Give them to their functions again, once what made them fail is mended."""
    for letter in (moved := dead_letters.redrive(ctx.obj(), tuple(message or ()))):
        typer.echo(f"{letter.message_id}: {letter.event} {letter.about}".rstrip())
    typer.echo(f"{len(moved)} redriven; one that fails again is back after five tries, within 20 minutes", err=True)


@app.command()
def discard(
    ctx: typer.Context, message: Annotated[str, typer.Argument(metavar="MESSAGE", help="As `list` names it.")]
) -> None:
    """Delete one for good, and print it: for a message that can never be handled."""
    letter = dead_letters.discard(ctx.obj(), message)
    typer.echo(letter.body)
    typer.echo(f"{letter.message_id} is deleted; the sweeper finds by itself what it told", err=True)
