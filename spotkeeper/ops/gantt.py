"""Pictures of replays and forecasts, by matplotlib, which is there where the extra `plot` is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from spotkeeper.ops.failure import OperationError
from spotkeeper.policy.replay_log import Replay

_COLORS: Final = {"spot": "#2a9d8f", "on-demand": "#e76f51", "wait": "#d9d9d9"}
_UP_COLOR: Final = "#264653"
_SUFFIXES: Final = (".png", ".svg", ".pdf")


def check_plot(path: Path | None) -> None:
    """Refuse a picture that cannot be made, before anything is computed for it.

    Raises:
        ValueError: if its name says no format that is known.
        OperationError: if matplotlib is missing, or the folder is.
    """
    if path is None:
        return
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"--plot must end in {', '.join(_SUFFIXES)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise OperationError(f"--plot: there is no folder {str(path.parent)!r}")
    _figure()


def draw_replays(
    path: Path, replays: Mapping[str, Replay], *, available: Sequence[int], start_tick: int, gap_seconds: float
) -> None:
    """Draw what each policy did on one line of time, below when spot was there.

    Args:
        path: Of the picture.
        replays: By the policy's name.
        available: The whole trace.
        start_tick: Where the replays began.
        gap_seconds: Length of a tick.
    """
    figure, axes = _figure()
    figure.set_size_inches(11, 1.6 + 0.5 * len(replays))
    tick_hours = gap_seconds / 3600
    num_ticks = max(sum(segment.ticks for segment in one.segments) for one in replays.values())
    shown = available[start_tick : start_tick + num_ticks]
    axes.broken_barh(_stretches(shown, tick_hours), (-0.35, 0.7), facecolors=_UP_COLOR)
    labels = ["spot is there"]
    for row, (name, one) in enumerate(replays.items(), start=1):
        for place, color in _COLORS.items():
            bars = [
                ((segment.first_tick - start_tick) * tick_hours, segment.ticks * tick_hours)
                for segment in one.segments
                if segment.place == place
            ]
            axes.broken_barh(bars, (row - 0.35, 0.7), facecolors=color, label=place if row == 1 else None)
        labels.append(f"{name}: ${one.usd:,.2f}")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("hours from the start")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.28), ncols=len(_COLORS), frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def draw_samples(
    path: Path, samples: Mapping[str, Sequence[tuple[float, float]]], *, deadline_hours: float | None
) -> None:
    """Draw the hours and dollars that simulations of each way to run a job came to.

    Args:
        path: Of the picture.
        samples: Hours until the end, and US dollars, by the way's name.
        deadline_hours: Drawn as a line; None: there is none.
    """
    figure, axes = _figure()
    figure.set_size_inches(8, 5)
    for name, points in samples.items():
        axes.scatter([hours for hours, _ in points], [usd for _, usd in points], s=12, alpha=0.5, label=name)
    if deadline_hours is not None:
        axes.axvline(deadline_hours, color=_UP_COLOR, linestyle="--", linewidth=1, label="deadline")
    axes.set_xlabel("hours until finished")
    axes.set_ylabel("US dollars")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _stretches(available: Sequence[int], tick_hours: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for tick, is_up in enumerate(available):
        if not is_up:
            continue
        begin, length = found[-1] if found else (0.0, -1.0)
        if found and abs(begin + length - tick * tick_hours) < tick_hours / 2:
            found[-1] = (begin, length + tick_hours)
        else:
            found.append((tick * tick_hours, tick_hours))
    return found


def _figure() -> tuple[Any, Any]:
    try:
        # Loaded here: no other command needs it, and it is slow. The figure has no window and no global state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OperationError(
            f"--plot needs matplotlib, which cannot be loaded ({error}): pip install 'spotkeeper[plot]'"
        ) from error
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
