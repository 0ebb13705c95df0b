"""The command `spotkeeper replay`: what the shipped policy would have done with a job on a recorded spot market."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops import baselines
from spotkeeper.ops.gantt import check_plot, draw_replays
from spotkeeper.ops.pool_traces import PoolTraces, together
from spotkeeper.ops.spending import cap_usd_option, mode_option
from spotkeeper.ops.spot_trace import Ticks, read_ticks
from spotkeeper.policy import hazard, preemption_rate
from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.replay import replay
from spotkeeper.policy.replay_log import Replay
from spotkeeper.policy.situation import Decision, Situation

SPOTKEEPER: Final = "spotkeeper"
_PLAIN_WIDTH: Final = 200
_MOST_SEGMENTS: Final = 40
_DEFAULT_ON_DEMAND_USD: Final = 3.06
_DEFAULT_SPOT_USD: Final = 0.9731
"""p3.2xlarge, as the published runs on recorded markets have it (docs/planning.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One job on one recorded market, by the shipped policy and by others."""

    ticks: Ticks
    start_tick: int
    replays: Mapping[str, Replay]
    """By name, `SPOTKEEPER` first."""
    pools: PoolTraces | None = None
    """The pools of which the market is made, if there are several."""


def compare(
    ticks: Ticks,
    *,
    spot_usd_per_hour: float,
    work_hours: float,
    deadline_hours: float | None,
    start_tick: int,
    pools: PoolTraces | None = None,
    **terms: Any,
) -> Comparison:
    """Replay a job by each policy.

    Args:
        ticks: The recorded market.
        spot_usd_per_hour: Where it has no prices of its own.
        work_hours: Work on one machine.
        deadline_hours: From the start; None: there is none, and only on-demand is compared.
        start_tick: Where the job begins.
        pools: The pools of which the market is made, if there are several.
        terms: What else `spotkeeper.policy.replay.replay` takes.

    Raises:
        ValueError: naming what is wrong, the value and what is allowed.
    """
    policies: dict[str, Callable[[Situation], Decision]] = {SPOTKEEPER: decide, "on-demand": baselines.on_demand}
    if deadline_hours is not None:
        policies["greedy"] = baselines.greedy
        policies["uniform progress"] = baselines.uniform_progress(
            work_hours=work_hours, deadline_hours=deadline_hours, has_hysteresis=True
        )
    run = partial(
        replay,
        ticks.available,
        ticks.spot_usd_per_hour or spot_usd_per_hour,
        gap_seconds=ticks.gap_seconds,
        work_hours=work_hours,
        deadline_hours=deadline_hours,
        start_tick=start_tick,
        pools=pools.pools if pools else None,
    )
    own = run(**terms, choose=decide)
    # Baselines know nothing of caps: they say what the work costs.
    free = {name: value for name, value in terms.items() if name not in ("cap_usd", "fallback_cap_usd")}
    others = {name: run(**free, choose=choose) for name, choose in policies.items() if name != SPOTKEEPER}
    return Comparison(ticks=ticks, start_tick=start_tick, replays={SPOTKEEPER: own, **others}, pools=pools)


def replay_trace(
    *,
    trace: Annotated[
        list[Path],
        typer.Option(
            help="CSV (time,available[,spot_price]) or JSON, also with .gz. Once for each pool that the job may be in; "
            "all must begin at the same time."
        ),
    ],
    work_hours: Annotated[float, typer.Option(help="Work on one machine.")] = 48.0,
    deadline_hours: Annotated[float | None, typer.Option(help="From the start; none by default.")] = None,
    changeover_hours: Annotated[float, typer.Option(help="From a machine's start to its first new step.")] = 0.2,
    on_demand_price: Annotated[float, typer.Option(metavar="USD", help="An hour on demand.")] = _DEFAULT_ON_DEMAND_USD,
    spot_price: Annotated[
        float, typer.Option(metavar="USD", help="An hour on spot, where the trace has no prices.")
    ] = _DEFAULT_SPOT_USD,
    start_tick: Annotated[int, typer.Option(help="Where in the trace the job begins.")] = 0,
    gap_seconds: Annotated[float | None, typer.Option(help="Length of a tick, if the trace does not say it.")] = None,
    lost_hours: Annotated[float, typer.Option(help="Work that each preemption takes back at most.")] = 0.0,
    mode: Annotated[str, typer.Option(help="deadline-first or budget-first.")] = Mode.DEADLINE_FIRST.value,
    total_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most to spend in all.")] = None,
    fallback_cap: Annotated[str | None, typer.Option(metavar="USD", help="Most to spend on on-demand.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="While on on-demand, only a paid standby tells whether spot is there.")
    ] = False,
    first_hour_free: Annotated[
        bool, typer.Option("--first-hour-free", help="Spot that is taken within its first hour costs nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
) -> None:
    """Replay a recorded spot market through the shipped policy, and through those that it is compared with.

    spotkeeper replay --trace us-west-2a.csv --work-hours 48 --deadline-hours 60

    spotkeeper replay --trace us-west-2a.csv --trace us-west-2b.csv --work-hours 48 --deadline-hours 60
    """
    check_plot(plot)
    markets = [(path, read_ticks(path, gap_seconds=gap_seconds)) for path in trace]
    pools = None
    if len(markets) > 1:
        pools = together(
            markets,
            spot_usd_per_hour=spot_price,
            on_demand_usd_per_hour=on_demand_price,
            changeover_hours=changeover_hours,
        )
    ticks = pools.ticks if pools else markets[0][1]
    found = compare(
        ticks,
        spot_usd_per_hour=spot_price,
        on_demand_usd_per_hour=on_demand_price,
        work_hours=work_hours,
        deadline_hours=deadline_hours,
        changeover_hours=changeover_hours,
        start_tick=start_tick,
        pools=pools,
        lost_hours=lost_hours,
        mode=mode_option(mode),
        cap_usd=cap_usd_option(total_cap, "--total-cap"),
        fallback_cap_usd=cap_usd_option(fallback_cap, "--fallback-cap"),
        sees_spot=not blind,
        is_first_hour_free=first_hour_free,
    )
    if as_json:
        typer.echo(json.dumps(plain(found), indent=2))
    else:
        _show(found)
    if plot is not None:
        draw_replays(
            plot, found.replays, available=ticks.available, start_tick=start_tick, gap_seconds=ticks.gap_seconds
        )


def plain(found: Comparison) -> dict[str, Any]:
    """Return what `--json` prints: the shipped policy's replay, and below `baselines` what others came to."""
    own, *others = found.replays.items()
    up, down = hazard.spells_of(found.ticks.available, gap_hours=found.ticks.gap_seconds / 3600)
    rate = preemption_rate.estimate(up)
    replayed = asdict(own[1])
    if found.pools:
        for segment in replayed["segments"]:
            segment["pool"] = found.pools.name_at(segment["first_tick"]) if segment["place"] == Market.SPOT else None
    return {
        "usd": own[1].usd,
        **replayed,
        "baselines": {
            name: {
                "usd": one.usd,
                "finish_hours": one.finish_hours,
                "misses_deadline": one.misses_deadline,
                "num_preemptions": one.num_preemptions,
            }
            for name, one in others
        },
        "trace": {
            "ticks": len(found.ticks.available),
            "gap_seconds": found.ticks.gap_seconds,
            "available_share": sum(found.ticks.available) / len(found.ticks.available),
            "has_prices": found.ticks.spot_usd_per_hour is not None,
            "preemption_rate": {**asdict(rate), "is_sufficient": rate.is_sufficient},
            "lifetime": asdict(hazard.fit(up).lomax),
            "outage": asdict(hazard.fit(down, prior=hazard.PRIOR_OUTAGE).lomax),
        },
    }


def _show(found: Comparison) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    for column in ("POLICY", "USD", "SPOT", "ON-DEMAND", "STANDBY", "FINISHED", "PREEMPTED", "LOST", "DEADLINE"):
        table.add_column(column, justify="left" if column in ("POLICY", "DEADLINE") else "right", no_wrap=True)
    for name, one in found.replays.items():
        finished = "never" if one.finish_hours is None else f"{one.finish_hours:.1f} h"
        cells = (name, f"{one.usd:.2f}", f"{one.spot_usd:.2f}", f"{one.on_demand_usd:.2f}", f"{one.standby_usd:.2f}",
                 finished, str(one.num_preemptions), f"{one.lost_work_hours:.1f} h",
                 "missed" if one.misses_deadline else "kept")  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    tick_hours = found.ticks.gap_seconds / 3600
    segments = found.replays[SPOTKEEPER].segments
    console.print()
    for segment in segments[:_MOST_SEGMENTS]:
        begin = (segment.first_tick - found.start_tick) * tick_hours
        place = segment.place
        if found.pools and place == Market.SPOT:
            place = found.pools.name_at(segment.first_tick)
        line = f"{begin:7.1f} h  {place:<9}  {segment.ticks * tick_hours:6.1f} h  ${segment.usd:8.2f}"
        console.print(Text(f"{line}  {segment.ended:<9}  {segment.reason}"))
    if len(segments) > _MOST_SEGMENTS:
        console.print(Text(f"… and {len(segments) - _MOST_SEGMENTS} more: --json lists all"))
    up, _ = hazard.spells_of(found.ticks.available, gap_hours=tick_hours)
    console.print(Text(f"\nspot in this trace is taken: {preemption_rate.estimate(up)}"))
