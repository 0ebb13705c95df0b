"""The demo on the screen: what happens, as it happens, and then what came of it."""

import time
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from emulation.demo.bill import Bill, Item
from emulation.demo.promises import Promise
from emulation.demo.timeline import Row
from spotkeeper.control.classify import Cause
from spotkeeper.policy import run_account

_ENDINGS: Final[dict[str, str]] = {
    Cause.INTERRUPTED: "notice",
    Cause.HOST_LOST: "no warning",
    Cause.YIELDED: "handover",
    Cause.COMPLETED: "completed",
}
_PLAIN_PROGRESS_SECONDS = 3.0


class Story:
    """Prints lines with the time since the start; on a terminal a progress bar stays below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("       {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._reported_at = float("-inf")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        minutes, seconds = divmod(int(self.seconds), 60)
        self._print(Text(f"{minutes:3}:{seconds:02} ", style="dim"), Text(text, style=style))

    def end_progress(self) -> None:
        """Take the bar away: nothing trains any more."""
        self._progress.stop()

    def progress(self, event: dict[str, Any]) -> None:
        """Show how far the training is: on the bar, or in a line now and then."""
        loss = event.get("metrics", {}).get("loss")
        told = f"loss {loss:.3f}" if isinstance(loss, float) else ""
        if self._bar is None:
            self._bar = self._progress.add_task("training", total=event["total"], loss="")
        self._progress.update(self._bar, completed=event["step"], loss=told)
        if not self._console.is_terminal and time.monotonic() - self._reported_at >= _PLAIN_PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            self.say(f"  step {event['step']} of {event['total']}  {told}")

    def show_timeline(self, rows: Sequence[Row]) -> None:
        """Print a row for each attempt."""
        table = Table(title="\nTimeline", title_justify="left", box=None, pad_edge=False, collapse_padding=True)
        for column in ("attempt", "market", "pool", "start", "end", "ended by", "steps", "lost"):
            is_text = column in ("attempt", "market", "pool", "ended by")
            table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
        for row in rows:
            cause = row.attempt.cause
            table.add_row(
                row.name,
                row.instance.market,
                f"{row.instance.type} {row.instance.zone}",
                f"{row.start_seconds:.0f} s",
                f"{row.end_seconds:.0f} s",
                _ENDINGS.get(cause or "", str(cause)),
                f"{row.first_step} -> {row.last_step}",
                str(row.lost_steps),
            )
        self._console.print(table)

    def show_bill(self, bill: Bill) -> None:
        """Print what each attempt's machine cost, and the same machine time on demand."""
        total = bill.total
        table = Table(title="\nCost", title_justify="left", box=None, pad_edge=False, collapse_padding=True)
        for column in ("attempt", "paid for", "time", "price", "spent", "on-demand", "on demand"):
            table.add_column(column, justify="left" if column in ("attempt", "paid for") else "right", no_wrap=True)
        for charge in bill.charges:
            is_compared = charge.item is not Item.STANDBY
            table.add_row(
                charge.attempt,
                charge.item.value,
                f"{charge.time.seconds:.1f} s",
                f"${charge.time.usd_per_hour}/h",
                _usd(charge.usd),
                f"${charge.time.on_demand_usd_per_hour}/h" if is_compared else "",
                _usd(charge.on_demand_usd) if is_compared else "",
            )
        table.add_row("all", "", "", "", _usd(total.spent_usd), "", _usd(total.on_demand_usd), style="bold")
        for item in (Item.ON_DEMAND, Item.STANDBY):
            if bill.usd_of(item):
                table.add_row("of it", item.value, "", "", _usd(bill.usd_of(item)))
        self._console.print(table)
        self._console.print(
            f"The run: {run_account.sentence(bill.account)}.\n"
            "The reference is the useful work alone with one start, as `spotkeeper savings` has it. Prices are "
            "emulated: drawn from the seed, near real ones. AWS would not even charge a machine that it takes back "
            "within its first hour.",
            soft_wrap=True,
        )

    def show_promises(self, promises: Sequence[Promise]) -> None:
        """Print each promise and what shows that it was kept, or broken."""
        self._console.print("\nPromises", style="italic")
        for promise in promises:
            mark = Text("  kept   ", style="green") if promise.is_kept else Text("  BROKEN ", style="bold red")
            self._print(mark, Text(promise.text) + Text(f" ({promise.evidence})", style="dim"))

    def _print(self, start: Text, rest: Text) -> None:
        """Print a line; a terminal gets it wrapped between words, and a file whole, so that it can be searched."""
        if not self._console.is_terminal:
            self._console.print(start + rest, soft_wrap=True)
            return
        line = Table.grid()
        line.add_column(no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(start, rest)
        self._console.print(line)


def _usd(amount: Decimal) -> str:
    return f"${amount:.6f}"
