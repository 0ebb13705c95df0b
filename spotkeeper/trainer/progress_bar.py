"""A progress bar for a person at a terminal, in place of the line a minute that programs read."""

import atexit
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.progress import Progress

REFRESH_SECONDS: Final = 0.2


class ProgressBar:
    """The bar of one run; what the program prints meanwhile stays above it."""

    def __init__(self, progress: "Progress", *, step: int, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", completed=step, total=total, told="")
        progress.start()

    def show(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Draw it anew."""
        told = "  ".join(f"{name} {_short(value)}" for name, value in metrics.items())
        self._progress.update(self._task, completed=step, told=told)
        self._progress.refresh()


@contextmanager
def open_progress_bar(*, step: int, total: int) -> Iterator[ProgressBar | None]:
    """Show a bar while the block runs; None where nobody would see it, or rich, which draws it, is not installed."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield None
        return
    try:
        # Imported here: where programs run unattended it is not needed, and not in the image.
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield None
        return
    told = TextColumn("{task.fields[told]}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), told)
    # Without a thread of its own: the loader forks.
    progress = Progress(*columns, auto_refresh=False)
    # A program that fails in its step leaves this block only when it is gone; its terminal needs its cursor back.
    atexit.register(progress.stop)
    try:
        yield ProgressBar(progress, step=step, total=total)
    finally:
        progress.stop()
        atexit.unregister(progress.stop)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
