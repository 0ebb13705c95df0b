"""The commands `spotkeeper checkpoints`."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops import checkpoints
from spotkeeper.ops.checkpoints import StoredCheckpoint
from spotkeeper.ops.elapsed import elapsed

_PLAIN_WIDTH = 200
"""Columns where the output is no terminal, so that lines can be searched."""

app = typer.Typer(no_args_is_help=True, help="What a run has saved: list it, roll it back, bring it back.")

_Run = Annotated[str, typer.Argument(metavar="RUN")]
_Step = Annotated[int, typer.Option(min=0, help="Of the checkpoint.")]
_Epoch = Annotated[
    int | None, typer.Option(min=1, help="Its fencing epoch, if several have this step; else the newest.")
]


@app.command("list")
def show(
    ctx: typer.Context, run: _Run, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List a run's checkpoints, newest first, and those that were removed within the last 30 days."""
    found = checkpoints.stored(run, ctx.obj())
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for column in ("STEP", "EPOCH", "AGE", "STATE"):
        table.add_column(column, no_wrap=True)
    resumes = checkpoints.newest_to_resume(run, found, ctx.obj())
    for one in found:
        cells = (str(one.step), str(one.epoch), elapsed(one.committed_at, now), _state(one, resumes, now))
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)


def _state(one: StoredCheckpoint, resumes: tuple[int, int] | None, now: datetime) -> str:
    if one.removed_at is not None:
        return f"removed {elapsed(one.removed_at, now)} ago"
    position = (one.epoch, one.step)
    if position == resumes:
        return "resumes"
    # Of a run without network: files are mirrored in no order, and with a host the rest of a checkpoint is lost.
    return "kept" if resumes is not None and position < resumes else "not whole"


@app.command("roll-back")
def roll_back(ctx: typer.Context, run: _Run, *, step: _Step, epoch: _Epoch = None) -> None:
    """Let a paused or parked run go on from an older checkpoint; newer ones are hidden, not lost."""
    hidden = checkpoints.roll_back(run, ctx.obj(), step=step, epoch=epoch)
    for one in hidden:
        typer.echo(f"removed step {one.step} of fencing epoch {one.epoch}")
    typer.echo(f"{run} resumes at step {step}")


@app.command()
def restore(ctx: typer.Context, run: _Run, *, step: _Step, epoch: _Epoch = None) -> None:
    """Bring back a checkpoint of a paused or parked run that was removed."""
    one = checkpoints.restore(run, ctx.obj(), step=step, epoch=epoch)
    typer.echo(f"step {one.step} of fencing epoch {one.epoch} is there again")
