"""The commands `spotkeeper sweep`: many runs that differ in their parameters, submitted as one."""

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel as cancel_run
from spotkeeper.control.run import Run
from spotkeeper.ops import spending, submission, sweep_status, sweep_submission
from spotkeeper.ops import submit_options as options
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.invocation import pasteable
from spotkeeper.ops.plan import Request
from spotkeeper.ops.reason import reason
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.sweep_plan import SweepPlan, cross_product, plan_sweep
from spotkeeper.ops.waiting import PASSING
from spotkeeper.policy.placement import Mode

_SHOWN_MEMBERS = 5
_SUFFIX = "member"
"""Stands for the index in what all members have in common."""
_PLAIN_WIDTH = 200
"""Columns where the output is no terminal, so that lines can be searched."""

app = typer.Typer(no_args_is_help=True, help="Many runs that differ in their parameters, submitted as one.")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the sweep.")]


@app.command()
def submit(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the sweep; new in this environment.")],
    command: Annotated[list[str], typer.Argument(help="The program, after --: python train.py …")],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,VALUE…",
            help="A variable, and what it is in turn; with several of them, each combination is a member. Repeatable.",
        ),
    ] = None,
    members: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="File with a JSON object a line, a member's variables; combined with each --param, if any.",
        ),
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Folder to send, as with submit.")] = None,
    no_source: Annotated[bool, typer.Option("--no-source", help="Send no folder.")] = False,
    team: Annotated[str | None, typer.Option(help="Whose fair share it uses.")] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="0-9999", help="Among the runs of its team; higher goes first; 100 is usual.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Accelerator class; the environment names its own.")] = None,
    image: Annotated[str | None, typer.Option(help="repository@sha256:… instead of the trainer image.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]s3://…", help="Becomes SPOTKEEPER_DATA_<NAME>. Repeatable.")
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ARN", help="Variable from Secrets Manager. Repeatable.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Variable that all members share. Repeatable.")
    ] = None,
    requirements: Annotated[
        str | None, typer.Option(help="pip requirements file, as a path inside the source folder.")
    ] = None,
    checkpoint_folder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where the program saves by itself (Hugging Face, Lightning, …): committed and restored.",
        ),
    ] = None,
    notice_signal: Annotated[
        str | None,
        typer.Option(metavar="TERM|INT|USR1|USR2", help="What such a program is sent when its host is taken; TERM."),
    ] = None,
    max_lost: Annotated[str | None, typer.Option(help="Most work to lose, 1s to 1h.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Longest time of one attempt.")] = None,
    progress_seconds: Annotated[int | None, typer.Option(help="Time between two progress lines.")] = None,
    fallback_cap: Annotated[
        str | None, typer.Option(metavar="USD", help="Most that each member spends on on-demand; $0 by default.")
    ] = None,
    total_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most that each member spends in all.")] = None,
    mode: Annotated[str, typer.Option(help="budget-first or deadline-first, as with submit.")] = (
        Mode.BUDGET_FIRST.value
    ),
    sweep_fallback_cap: Annotated[
        str | None, typer.Option(metavar="USD", help="Most that the members spend on on-demand together.")
    ] = None,
    sweep_total_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most that they spend in all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Accept values that look like secrets.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the exact SubmitJob request and the first members; change nothing.")
    ] = False,
) -> None:
    """Submit a sweep and print its name; the same command goes on where an earlier one was cut off.

    spotkeeper sweep submit lr --param LR=0.1,0.01 --param SEED=0,1,2 -- python train.py
    """
    request = Request(
        command=tuple(command),
        name=name,
        team=team,
        priority=priority,
        profile=profile,
        image=image,
        data=options.pairs("--data", [options.named_data(text) for text in data or []]),
        secrets=options.pairs("--secret", secret),
        environment_variables=options.pairs("--env", env),
        requirements=requirements,
        checkpoint_folder=checkpoint_folder,
        notice_signal=notice_signal,
        max_lost_seconds=options.max_lost(max_lost),
        attempt_seconds=options.time_limit(time_limit),
        progress_seconds=progress_seconds,
        spending=Spending.of(
            fallback_cap=fallback_cap,
            total_cap=total_cap,
            mode=mode,
            sweep=name,
            sweep_fallback_cap=sweep_fallback_cap,
            sweep_total_cap=sweep_total_cap,
        ),
        without_source=no_source,
        force=force,
    )
    parameters = cross_product(_choices(param), _lines(members))
    folder = options.folder(request, source)
    connection: Connection = ctx.obj()
    now = _now()
    base = submission.prepare(request, connection=connection, source_directory=folder, suffix=_SUFFIX, now=now)
    plan = plan_sweep(base, request, name=name, members=parameters)
    options.show_source(base, folder, is_chosen=source is not None)
    for warning in base.warnings:
        typer.echo(f"warning: {pasteable(ctx, warning)}", err=True)
    if dry_run:
        _show_plan(plan)
        return
    typer.echo(name)
    array_id = _submit(plan, connection, now)
    told = "no array job is needed" if array_id is None else f"{len(plan.members)} members, array job {array_id}"
    typer.echo(pasteable(ctx, f"{told}; watch: `spotkeeper sweep status {name}`"), err=True)
    _tell_resting(ctx, sweep_status.sweep_of(name, connection)[1])


@app.command()
def status(
    ctx: typer.Context,
    name: _Name,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON of all members, for programs.")] = False,
    state: Annotated[str | None, typer.Option(help="Only members in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most members in the table.")] = 50,
) -> None:
    """Show how many members are in each state, and the members with their parameters."""
    if state is not None and state not in list(RunState):
        raise ValueError(f"--state must be one of {', '.join(RunState)}, got {state!r}")
    connection: Connection = ctx.obj()
    record, found = sweep_status.sweep_of(name, connection)
    chosen = [member for member in found if state in (None, member.state)]
    if as_json:
        told = {**asdict(record), "counts": sweep_status.counts(record, found)}
        typer.echo(json.dumps({**told, "members": [asdict(member) for member in chosen]}, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
    sweep_status.show(
        record,
        chosen,
        sweep_status.look_at(chosen[:limit], connection),
        console,
        now=datetime.now(UTC),
        pasteable=partial(pasteable, ctx),
    )


@app.command()
def cancel(ctx: typer.Context, name: _Name) -> None:
    """Stop every member for good; their checkpoints stay."""
    connection: Connection = ctx.obj()
    _, found = sweep_status.sweep_of(name, connection)
    opened = [member for member in found if not member.is_closed]
    left = []
    for member in opened:
        try:
            cancel_run(member.run_id, ports=connection.ports, now=_now())
        except PASSING as error:
            left.append(f"{member.run_id}: {error}")
    typer.echo(f"{len(opened) - len(left)} members are cancelled, or stopping; {len(found) - len(opened)} had ended")
    if left:
        raise OperationError(f"{len(left)} members were not reached, the first {left[0]}: try again")


def _choices(given: list[str] | None) -> dict[str, list[str]]:
    choices = {name: text.split(",") for name, text in options.pairs("--param", given).items()}
    for name, values in choices.items():
        if "" in values:
            raise ValueError(
                f"--param {name} has an empty value: use --members for values that are empty or have commas"
            )
        if len(set(values)) < len(values):
            raise ValueError(f"--param {name} names a value twice: {','.join(values)}")
    return choices


def _lines(path: Path | None) -> list[dict[str, str]]:
    if path is None:
        return []
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if text.strip():
            lines.append(_line(text, f"{path}:{number}"))
    if not lines:
        raise ValueError(f"--members {path} holds no member: write a JSON object a line")
    return lines


def _line(text: str, where: str) -> dict[str, str]:
    try:
        told: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error
    if not isinstance(told, dict):
        # What the user typed, not what a caller passed.
        raise ValueError(f'{where} must be a JSON object such as {{"LR": 0.1}}, got {text[:40]!r}')  # noqa: TRY004
    for name, value in told.items():
        if isinstance(value, (dict, list)) or value is None:
            raise ValueError(f"{where}: {name} must be text, a number, true or false, got {json.dumps(value)[:40]}")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}


def _submit(plan: SweepPlan, connection: Connection, now: str) -> str | None:
    size = len(plan.members)

    def progress(recorded: int) -> None:
        if size > recorded or size > 1000:
            typer.echo(f"recorded {recorded} of {size} members", err=True)

    try:
        return sweep_submission.submit(plan, connection=connection, now=now, pause=time.sleep, progress=progress)
    except KeyboardInterrupt:
        raise OperationError(sweep_submission.unconfirmed(plan.record.name)) from None


def _tell_resting(ctx: typer.Context, members: tuple[Run, ...]) -> None:
    resting = [member for member in members if member.state in (RunState.PARKED, RunState.WAITING)]
    if resting:
        first = f"{resting[0].run_id}: {reason(resting[0], now=datetime.now(UTC))}"
        typer.echo(pasteable(ctx, f"{len(resting)} members rest, the first, {first}"), err=True)


def _show_plan(plan: SweepPlan) -> None:
    typer.echo(json.dumps(plan.request(), indent=2))
    typer.echo(spending.summary(plan.members[0]), err=True)
    for run in plan.members[:_SHOWN_MEMBERS]:
        own = " ".join(f"{name}={run.variables[name]}" for name in plan.record.parameters if name in run.variables)
        typer.echo(f"{run.run_id}: {own}", err=True)
    if len(plan.members) > _SHOWN_MEMBERS:
        typer.echo(f"and {len(plan.members) - _SHOWN_MEMBERS} more members", err=True)
    if plan.base.source is not None:
        typer.echo(f"would upload, unless it is there: {options.kib(plan.base.source.archive)}", err=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
