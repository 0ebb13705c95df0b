"""The command `spotkeeper plan`: what a job will probably cost, and when it is done, before anything is spent."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops import job_plan, savings
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.duration import duration_option
from spotkeeper.ops.gantt import check_plot, draw_samples
from spotkeeper.ops.job_plan import JobPlan, JobRequest, Prices
from spotkeeper.ops.market_data import snapshot
from spotkeeper.ops.pools import lifetimes
from spotkeeper.ops.spending import cap_usd_option, mode_option
from spotkeeper.ops.spot_trace import Ticks, read_ticks
from spotkeeper.policy.checkpoint_interval import DEFAULT_MAX_LOST_SECONDS, LONGEST_MAX_LOST_SECONDS
from spotkeeper.policy.forecast import Outlook, Spread
from spotkeeper.policy.market import Mode
from spotkeeper.policy.pools import Offer
from spotkeeper.policy.preemption_rate import Spell, estimate
from spotkeeper.policy.suitability import Kind

_PLAIN_WIDTH: Final = 200
_SEEN_WITHIN: Final = timedelta(days=90)


def plan(
    ctx: typer.Context,
    *,
    work_hours: Annotated[float | None, typer.Option(help="Work on one machine, without interruptions.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of --work-hours, with --steps-per-second.")] = None,
    steps_per_second: Annotated[float | None, typer.Option(help="As measured on one machine.")] = None,
    deadline_hours: Annotated[float | None, typer.Option(help="From the start; none by default.")] = None,
    state_gb: Annotated[float, typer.Option(help="Size of a checkpoint.")] = 1.0,
    upload: Annotated[float, typer.Option(metavar="GB/S", help="What an upload reaches.")] = 0.4,
    stall_seconds: Annotated[float, typer.Option(help="Training time that one checkpoint costs.")] = 1.0,
    changeover_hours: Annotated[float, typer.Option(help="From a machine's start to its first new step.")] = 0.2,
    max_lost: Annotated[str | None, typer.Option(help="Most work to lose, 1s to 1h; 15m by default.")] = None,
    no_checkpoints: Annotated[bool, typer.Option("--no-checkpoints", help="The job saves nothing.")] = False,
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(Kind)}.")] = Kind.TRAINING.value,
    nodes: Annotated[int, typer.Option(help="Machines that work together.")] = 1,
    instance_type: Annotated[list[str] | None, typer.Option(help="That the job may run on. Repeatable.")] = None,
    region: Annotated[str, typer.Option(help="Of these types.")] = "us-east-1",
    prices: Annotated[Path | None, typer.Option(help="Prices of `spotkeeper prices --refresh`.")] = None,
    on_demand_price: Annotated[float | None, typer.Option(metavar="USD", help="An hour, instead of types.")] = None,
    spot_price: Annotated[float | None, typer.Option(metavar="USD", help="An hour, instead of types.")] = None,
    mode: Annotated[str, typer.Option(help="budget-first or deadline-first.")] = Mode.DEADLINE_FIRST.value,
    total_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most to spend in all.")] = None,
    fallback_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most to spend on on-demand.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Try it on a recorded market, as `replay` takes it.")] = None,
    from_environment: Annotated[
        bool,
        typer.Option(
            "--from-environment",
            help="Take how often spot was taken in the environment within 90 days, where that is enough.",
        ),
    ] = False,
    samples: Annotated[int, typer.Option(help="Markets to try it on.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same plan.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Plan also where spot does not belong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw all markets: a .png, .svg or .pdf.")] = None,
) -> None:
    """Say what a job will probably cost and when it is done, on spot, mixed and on-demand, before anything is spent.

    For AWS Batch, at EC2's prices. For SageMaker give its own by --on-demand-price and --spot-price.

    spotkeeper plan --work-hours 48 --deadline-hours 60 --state-gb 8 --instance-type g5.xlarge --instance-type g6.xlarge
    """
    check_plot(plot)
    if kind not in list(Kind):
        raise ValueError(f"--kind must be one of {', '.join(Kind)}, got {kind!r}")
    request = JobRequest(
        work_hours=_work_hours(work_hours, steps, steps_per_second),
        deadline_hours=deadline_hours,
        state_gb=state_gb,
        upload_gb_per_second=upload,
        stall_seconds=stall_seconds,
        changeover_hours=changeover_hours,
        max_lost_seconds=DEFAULT_MAX_LOST_SECONDS
        if max_lost is None
        else duration_option(max_lost, option="--max-lost", at_least=1, at_most=int(LONGEST_MAX_LOST_SECONDS)),
        kind=Kind(kind),
        num_nodes=nodes,
        has_checkpoints=not no_checkpoints,
        mode=mode_option(mode),
        total_cap_usd=cap_usd_option(total_cap, "--total-cap"),
        fallback_cap_usd=cap_usd_option(fallback_cap, "--fallback-cap"),
    )
    ticks = None if trace is None else read_ticks(trace)
    told = _prices(request, ticks, instance_type or [], region, prices, on_demand_price, spot_price)
    seen = _seen(ctx.obj(), instance_type or [], has_trace=ticks is not None) if from_environment else ()
    made = job_plan.make(request, told, trace=ticks, seen=seen, num_samples=samples, seed=seed, force=force)
    for concern in made.concerns:
        typer.echo(f"warning: {concern.message}", err=True)
    if as_json:
        typer.echo(json.dumps(plain(made), indent=2))
    else:
        _show(made)
    if plot is not None:
        points = {way.value: outlook.samples for way, outlook in made.outlooks.items()}
        draw_samples(plot, points, deadline_hours=deadline_hours)


def _seen(connection: Connection, instance_types: list[str], *, has_trace: bool) -> tuple[Spell, ...]:
    if has_trace:
        raise ValueError("a plan rests on one market: give --trace or --from-environment, not both")
    now = datetime.now(UTC)
    period = savings.Period(began_at=now - _SEEN_WITHIN, ended_at=now)
    runs, _ = savings.chosen_runs(connection, run_ids=(), period=period, team=None)
    return lifetimes(runs, connection, instance_types=instance_types, now=now)


def plain(made: JobPlan) -> dict[str, Any]:
    """Return what `--json` prints."""
    told = asdict(made)
    for outlook in told["outlooks"].values():
        del outlook["samples"]  # A picture's, and two numbers for every market.
    told["rate"]["is_sufficient"] = made.rate.is_sufficient
    return told


def _work_hours(work_hours: float | None, steps: int | None, steps_per_second: float | None) -> float:
    if work_hours is not None and steps is None and steps_per_second is None:
        return work_hours
    if work_hours is not None or steps is None or steps_per_second is None:
        raise ValueError("how much work is it? give --work-hours, or --steps and --steps-per-second")
    if not 0 < steps_per_second < float("inf"):
        raise ValueError(f"--steps-per-second must be above 0 and finite, got {steps_per_second}")
    return steps / steps_per_second / 3600


def _prices(
    request: JobRequest,
    ticks: Ticks | None,
    instance_types: list[str],
    region: str,
    path: Path | None,
    on_demand_price: float | None,
    spot_price: float | None,
) -> Prices:
    recorded = ticks.spot_usd_per_hour if ticks else None
    if spot_price is None and recorded is not None and not instance_types:
        spot_price = sum(recorded) / len(recorded)
    if instance_types and on_demand_price is None and spot_price is None:
        data = snapshot.read(path or snapshot.SHIPPED)
        offers = [
            Offer(
                pool=price.pool,
                spot_usd_per_hour=price.spot_usd_per_hour,
                on_demand_usd_per_hour=price.on_demand_usd_per_hour,
                preemptions_per_hour=estimate(()).per_hour,
            )
            for price in data.of(instance_types, region)
        ]
        return job_plan.prices_of_pools(offers, request=request, source=f"read on {data.read_on} from {data.source}")
    if instance_types or on_demand_price is None or spot_price is None:
        raise ValueError(
            "what does an hour cost? give --instance-type, whose prices are looked up, or --on-demand-price and "
            "--spot-price (a trace with prices needs the first of them alone)"
        )
    return Prices(spot_usd_per_hour=spot_price, on_demand_usd_per_hour=on_demand_price, choice=None, source="as given")


def _show(made: JobPlan) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("WAY", no_wrap=True)
    for column in ("USD MEAN", "P50", "P90", "HOURS MEAN", "P50", "P90", "FINISHED", "IN TIME", "PREEMPTED"):
        table.add_column(column, justify="right", no_wrap=True)
    for way, outlook in made.outlooks.items():
        table.add_row(*(Text(cell) for cell in (way.value, *_cells(outlook))))
    console.print(table)
    told = [made.verdict, f"markets: {made.num_samples}, {made.market}", f"spot is taken: {made.rate}"]
    prices = made.prices
    told.append(
        f"an hour costs ${prices.spot_usd_per_hour:.4f} on spot, ${prices.on_demand_usd_per_hour:.4f} on demand "
        f"({prices.source})"
    )
    if made.interval_seconds is None:
        told.append("checkpoints: none")
    else:
        told.append(f"checkpoints: every {made.interval_seconds:.0f} s ({made.interval_reason})")
        told.append(
            "the two-minute notice suffices for a whole save"
            if made.notice_suffices
            else "the two-minute notice does not suffice for a whole save: only the periodic checkpoint counts"
        )
    if prices.choice is not None:
        told.append(f"pools: {prices.choice.reason}: {', '.join(str(one.offer.pool) for one in prices.choice.pools)}")
    console.print()
    for line in told:
        console.print(Text(line))


def _cells(outlook: Outlook) -> tuple[str, ...]:
    in_time = "-" if outlook.in_time_share is None else f"{outlook.in_time_share:.0%}"
    return (
        *_spread(outlook.usd, "{:.2f}"),
        *_spread(outlook.hours, "{:.1f}"),
        f"{outlook.finished_share:.0%}",
        in_time,
        f"{outlook.num_preemptions:.1f}",
    )


def _spread(of: Spread, form: str) -> tuple[str, ...]:
    return tuple("?" if value is None else form.format(value) for value in (of.mean, of.p50, of.p90))
