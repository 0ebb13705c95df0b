"""The command `spotkeeper doctor`."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from spotkeeper.ops import failure
from spotkeeper.ops.doctor.checkup import Result, examine
from spotkeeper.ops.doctor.examined import Examined


def doctor(
    ctx: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False
) -> None:
    """Look for what keeps the environment from working, and say how to put it right. Nothing is changed.

    Exit 0: all is well. 1: something was found, or could not be looked at.
    """
    results = tuple(examine(Examined(connection=ctx.obj(), now=datetime.now(UTC))))
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        for line in lines(results):
            typer.echo(line)
    if not all(result.is_pass for result in results):
        raise typer.Exit(failure.EXIT_FAILURE)


def lines(results: Iterable[Result]) -> Iterable[str]:
    """Yield what people read: a line a check, and below it what was found."""
    for result in results:
        told = f": {result.reason}" if result.reason else ""
        yield f"{result.verdict:<17} {result.check}{told}"
        for finding in result.findings:
            yield f"    {finding.subject}"
            yield f"        is      {finding.value}"
            yield f"        should  {finding.expected}"
            yield f"        fix     {finding.fix}"
