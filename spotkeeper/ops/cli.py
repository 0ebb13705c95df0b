"""The command line `spotkeeper`: options in, one function called, its result shown."""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from typer.core import TyperGroup

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.training import is_queue
from spotkeeper.control import pause as pausing
from spotkeeper.control import priority as prioritizing
from spotkeeper.control.cancel import cancel as cancel_run
from spotkeeper.control.ports import UnknownRun
from spotkeeper.control.run import Lack, Run
from spotkeeper.ops import (
    checkpoint_commands,
    dead_letter_commands,
    failure,
    log_stream,
    money_commands,
    reason,
    spending,
    submission,
    sweep_commands,
    sweep_status,
    training_place,
    waiting,
)
from spotkeeper.ops import others as others_jobs
from spotkeeper.ops import status as run_status
from spotkeeper.ops import submit_options as options
from spotkeeper.ops.connection import Connection, LocalEndpoint, connect
from spotkeeper.ops.deadline import Deadline
from spotkeeper.ops.doctor.command import doctor
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.invocation import pasteable
from spotkeeper.ops.market_data.command import prices
from spotkeeper.ops.plan import Plan, Request
from spotkeeper.ops.plan_command import plan
from spotkeeper.ops.pools_command import pools
from spotkeeper.ops.replay_command import replay_trace
from spotkeeper.ops.savings import line_of
from spotkeeper.ops.savings_command import savings
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.training_place import BATCH
from spotkeeper.policy.placement import Mode

_POLL_SECONDS = 2
_PLAIN_WIDTH = 200
"""Columns where the output is no terminal, so that lines can be searched."""


class _Commands(TyperGroup):
    """Ends a command that failed for a known reason with one sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return self._invoke(ctx)
        except typer.BadParameter as error:
            error.message += _got(error)
            raise
        except failure.EXPECTED as error:
            typer.echo(f"spotkeeper: {pasteable(ctx, failure.sentence(error))}", err=True)
            raise typer.Exit(failure.exit_code(error)) from error

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UnknownRun as error:
            sweep_status.refuse_sweep(error.run_id, ctx.obj())
            raise


def _got(error: typer.BadParameter) -> str:
    """Return the value that is of another type than its option: the parser says which type alone."""
    cause = error.__cause__
    return f", got {cause.errors()[0]['input']!r}" if isinstance(cause, ValidationError) else ""


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run machine-learning jobs on AWS spot capacity that keep their work.",
)
app.add_typer(money_commands.budget_app, name="budget")
app.add_typer(money_commands.fallback_app, name="fallback")
app.add_typer(sweep_commands.app, name="sweep")
app.add_typer(checkpoint_commands.app, name="checkpoints")
app.add_typer(dead_letter_commands.app, name="dead-letters")
app.command()(doctor)
app.command()(plan)
app.command()(pools)
app.command()(prices)
app.command()(savings)
app.command("replay")(replay_trace)


@app.callback()
def select(
    ctx: typer.Context,
    *,
    environment: Annotated[
        str | None,
        typer.Option("--environment", "-e", envvar="SPOTKEEPER_ENV", help="The deployed environment; dev by default."),
    ] = None,
    region: Annotated[
        str | None,
        # The AWS CLI and the CDK read AWS_REGION; boto3, left alone, reads AWS_DEFAULT_REGION and the profile only.
        typer.Option(envvar="AWS_REGION", help="AWS region; else AWS_DEFAULT_REGION, or that of the AWS profile."),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Use the emulation that runs on this machine.")] = False,
) -> None:
    """Run machine-learning jobs on AWS spot capacity that keep their work."""
    # Connected by the command, so that --help of a command asks nobody.
    ctx.obj = cache(lambda: _connect(environment, region, LocalEndpoint.find(os.environ) if local else None))


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(help="The program, after --: python train.py …")],
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Folder to send; the current one unless the command needs no files. Left out: what .gitignore and "
            ".spotkeeperignore say, secrets (.env, keys) and checkpoints/; !NAME in .spotkeeperignore sends it anyway."
        ),
    ] = None,
    no_source: Annotated[bool, typer.Option("--no-source", help="Send no folder.")] = False,
    name: Annotated[str | None, typer.Option(help="Begins the run's id.")] = None,
    team: Annotated[str | None, typer.Option(help="Whose fair share it uses.")] = None,
    on: Annotated[
        str,
        typer.Option("--on", metavar="batch|sagemaker", help="AWS Batch, or SageMaker managed spot."),
    ] = BATCH,
    nodes: Annotated[int, typer.Option(help="Machines that train together; more than 1 on SageMaker only.")] = 1,
    priority: Annotated[
        int | None, typer.Option(metavar="0-9999", help="Among the runs of its team; higher goes first; 100 is usual.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Accelerator class; the environment names its own.")] = None,
    image: Annotated[str | None, typer.Option(help="repository@sha256:… instead of the trainer image.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]s3://…",
            help="Becomes SPOTKEEPER_DATA_<NAME>; NAME is its last part by default. Repeatable.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ARN", help="Variable from Secrets Manager. Repeatable.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Plain variable. Repeatable.")] = None,
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
    max_lost: Annotated[
        str | None, typer.Option(help="Most work to lose, 1s to 1h, instead of what the code says.")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="Longest time of one attempt; a day by default, or less if the environment allows less."),
    ] = None,
    progress_seconds: Annotated[int | None, typer.Option(help="Time between two progress lines.")] = None,
    fallback_cap: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Most to spend on on-demand when spot is dry; $0 by default: spot only."),
    ] = None,
    total_cap: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Most to spend in all; without it, what environment and team allow."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="budget-first: every cap is hard. deadline-first: falls back at once, and may cross the run's own cap."
        ),
    ] = Mode.BUDGET_FIRST.value,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Be complete in so long, such as 40h; on-demand is used for it as needed."),
    ] = None,
    work: Annotated[
        str | None, typer.Option(metavar="TIME", help="What all the work takes on one machine; with --deadline.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of all the work, to tell what is left of it.")] = None,
    sweep: Annotated[str | None, typer.Option(metavar="NAME", help="Group of runs that share caps.")] = None,
    sweep_fallback_cap: Annotated[
        str | None, typer.Option(metavar="USD", help="Most that the sweep's runs spend on on-demand together.")
    ] = None,
    sweep_total_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most that they spend in all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Accept values that look like secrets.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact request to AWS; change nothing.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end, or until it needs a person; exit 1 unless it succeeded.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show the log until the end, as --wait does.")] = False,
) -> None:
    """Submit a run and print its id.

    spotkeeper submit --max-lost 10m -- python train.py --epochs 20
    """
    request = Request(
        command=tuple(command),
        name=name,
        team=team,
        priority=priority,
        service=on,
        num_nodes=nodes,
        profile=profile,
        image=image,
        data=options.pairs("--data", [options.named_data(text) for text in data or []]),
        # Where none is taken, whatever it looks like, that is what has to be said.
        secrets=options.pairs("--secret", secret) if on == BATCH else dict.fromkeys(secret or (), ""),
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
            sweep=sweep,
            sweep_fallback_cap=sweep_fallback_cap,
            sweep_total_cap=sweep_total_cap,
        ),
        deadline=Deadline.of(deadline=deadline, work=work, steps=steps),
        without_source=no_source,
        force=force,
    )
    folder = options.folder(request, source)
    connection: Connection = ctx.obj()
    plan = submission.prepare(
        request,
        connection=connection,
        source_directory=folder,
        suffix=secrets.token_hex(3),
        now=_now(),
    )
    options.show_source(plan, folder, is_chosen=source is not None)
    for warning in plan.warnings:
        typer.echo(f"warning: {pasteable(ctx, warning)}", err=True)
    if dry_run:
        _show_plan(ctx, plan)
        return
    run = _submit(ctx, plan, connection)
    typer.echo(pasteable(ctx, _submitted(run)), err=True)
    with _looking(ctx, run.run_id):
        if follow:
            _print_log(run.run_id, connection, attempt=None, follow=True)
        if wait or follow:
            _exit_as(ctx, waiting.wait(run.run_id, connection, pause=_pause))


@app.command()
def status(
    ctx: typer.Context,
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="One run, with its attempts.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most open and most ended runs.")] = 20,
    others: Annotated[
        bool, typer.Option("--others", help="Jobs on the queues that are no runs of Spotkeeper, and their cost.")
    ] = False,
) -> None:
    """Show the runs, or one run with its attempts and its newest checkpoint."""
    connection: Connection = ctx.obj()
    if others:
        if run_id is not None:
            raise ValueError(f"--others lists jobs that are no runs; leave out {run_id!r}")
        others_jobs.show(connection.others.list_jobs(limit), _console(), as_json=as_json)
        return
    if run_id is None:
        runs = run_status.recent_runs(connection, limit)
        if as_json:
            typer.echo(json.dumps([run_status.plain(run) for run in runs], indent=2))
        else:
            run_status.show_runs(runs, _console(), now=datetime.now(UTC), pasteable=partial(pasteable, ctx))
        return
    found = run_status.status_of(run_id, connection, now=_now())
    if as_json:
        typer.echo(json.dumps(run_status.plain(found), indent=2))
    else:
        now = datetime.now(UTC)
        run_status.show_status(found, _console(), now=now, pasteable=partial(pasteable, ctx))
        account = line_of(found.run, found.attempts, connection, now=now)
        if account is not None:
            typer.echo(f"\n{account}")


@app.command()
def logs(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until the run ends.")] = False,
    attempt: Annotated[
        str | None, typer.Option(metavar="N.N", help="Only this attempt, as `status` shows it: 1.2.")
    ] = None,
) -> None:
    """Print what a run's attempts wrote; of a run with several nodes, each line with its node."""
    with _looking(ctx, run_id):
        _print_log(run_id, ctx.obj(), attempt=attempt, follow=follow)


@app.command()
def cancel(ctx: typer.Context, run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Stop a run for good; its checkpoints stay."""
    connection: Connection = ctx.obj()
    run = cancel_run(run_id, ports=connection.ports, now=_now())
    if run.is_closed and run.state is not RunState.CANCELLED:
        typer.echo(f"{run_id} has already ended: {run.state}")
    else:
        typer.echo(f"{run_id} is {'cancelled' if run.is_closed else 'being cancelled; its job is stopping'}")


@app.command()
def pause(ctx: typer.Context, run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Stop a run after it has saved, until `spotkeeper resume`."""
    connection: Connection = ctx.obj()
    run = pausing.pause(run_id, ports=connection.ports, now=_now())
    _refuse_ended(run)
    if run.pause_requested_at is not None:
        typer.echo(f"{run_id} is being paused; its job is stopping")
    else:
        typer.echo(pasteable(ctx, f"{run_id} is {_state_of(run)}"))


# A negative number is a priority out of range, not an unknown option.
@app.command("priority", context_settings={"ignore_unknown_options": True})
def prioritize(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    number: Annotated[int, typer.Argument(metavar="PRIORITY", help="0 to 9999; higher goes first; usual: 100.")],
) -> None:
    """Let a run go before, or after, the others of its team; one that has a machine goes on."""
    connection: Connection = ctx.obj()
    run = prioritizing.prioritize(run_id, number, ports=connection.ports)
    _refuse_ended(run)
    has_machine = run.state is RunState.RUNNING and run.waits_since is None
    later = " from its next job on: the one that runs goes on" if has_machine else ""
    typer.echo(f"{run_id} has priority {number}{later}")


@app.command()
def resume(ctx: typer.Context, run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Let a paused, parked or waiting run go on now."""
    connection: Connection = ctx.obj()
    run = pausing.resume(run_id, ports=connection.ports, now=_now())
    _refuse_ended(run)
    if not run.is_live or run.cancel_requested_at is not None:
        raise OperationError(f"{run_id} cannot go on: it is {_state_of(run)}")
    typer.echo(f"{run_id} goes on: it is {_state_of(run)}")


def _refuse_ended(run: Run) -> None:
    if run.is_closed:
        raise OperationError(f"{run.run_id} has ended: it is {_state_of(run)}")


def _state_of(run: Run) -> str:
    if run.cancel_requested_at is not None and not run.is_closed:
        return "being cancelled"
    return reason.state(run, now=datetime.now(UTC))


def _connect(environment: str | None, region: str | None, local: LocalEndpoint | None) -> Connection:
    return connect(environment or (local.environment if local else "dev"), region=region, local=local)


@contextmanager
def _looking(ctx: typer.Context, run_id: str) -> Iterator[None]:
    """Say, when Ctrl-C ends the looking, that it does not end the run."""
    try:
        yield
    except KeyboardInterrupt:
        told = (
            f"run {run_id} goes on without you. Look again: `spotkeeper logs --follow {run_id}`; "
            f"stop it for good: `spotkeeper cancel {run_id}`"
        )
        typer.echo(f"\nspotkeeper: {pasteable(ctx, told)}", err=True)
        raise typer.Exit(failure.EXIT_INTERRUPTED) from None


def _submitted(run: Run) -> str:
    """Return what became of a run that was just submitted, and what its user may want to do."""
    where, told = f"on {run.market}, profile {run.profile}", _state_of(run)
    if run.is_live:
        return f"{told} {where}; watch: `spotkeeper logs --follow {run.run_id}`"
    if run.lacks != Lack.MONEY:
        return f"no job {where} yet: the run is {told}"
    fix = f"`spotkeeper budget set` with a higher cap, then `spotkeeper resume {run.run_id}`"
    return f"no job {where} yet: the run is {told}. To let it go on: {fix}"


def _submit(ctx: typer.Context, plan: Plan, connection: Connection) -> Run:
    recorded: list[str] = []

    def announce(run_id: str) -> None:
        recorded.append(run_id)
        typer.echo(run_id)

    try:
        return submission.submit(plan, connection=connection, now=_now(), pause=time.sleep, announce=announce)
    except KeyboardInterrupt:
        for run_id in recorded:
            typer.echo(f"spotkeeper: {pasteable(ctx, submission.unconfirmed(run_id))}", err=True)
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def _show_plan(ctx: typer.Context, plan: Plan) -> None:
    typer.echo(json.dumps(plan.request(), indent=2))
    typer.echo(spending.summary(plan.run), err=True)
    if is_queue(plan.run.job_queue):
        for lost in training_place.lost_by_hand(plan.run, has_source=plan.source is not None):
            typer.echo(f"note: {pasteable(ctx, lost)}", err=True)
    if plan.source is not None:
        typer.echo(f"would upload, unless it is there: {options.kib(plan.source.archive)}", err=True)
    if plan.definition is not None and plan.run.job_definition == plan.definition["jobDefinitionName"]:
        typer.echo(
            "would first register this job definition, and submit with the ARN of its new revision in place of its "
            f"name: {json.dumps(plan.definition)}",
            err=True,
        )


def _print_log(run_id: str, connection: Connection, *, attempt: str | None, follow: bool) -> None:
    shown = None
    for line in log_stream.read(run_id, connection, attempt=attempt, pause=_pause if follow else None):
        if line.attempt != shown:
            typer.echo(f"--- attempt {line.attempt}", err=True)
            shown = line.attempt
        typer.echo(line.text if line.node is None else f"node {line.node}: {line.text}")


def _pause() -> None:
    time.sleep(_POLL_SECONDS)


def _exit_as(ctx: typer.Context, run: Run) -> None:
    typer.echo(pasteable(ctx, f"{run.run_id}: {_state_of(run)}"), err=True)
    if run.state is not RunState.SUCCEEDED:
        raise typer.Exit(failure.EXIT_FAILURE)
