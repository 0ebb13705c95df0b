"""What is known of a sweep and its members, gathered and shown."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.contract.ledger import LISTING_CLOSED, LISTING_OPEN, RunState
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.reason import reason, state_word

_MOST_RUNS: Final = 1000
"""Of each listing: nothing lists the runs of a sweep alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStatus:
    """One member, with what costs a look of its own."""

    run: Run
    num_attempts: int
    step: int | None
    """Newest committed step."""


def sweep_of(name: str, connection: Connection) -> tuple[SweepRecord, tuple[Run, ...]]:
    """Return a sweep and its members: by index, or, where each was submitted by itself, in the order of that.

    Raises:
        OperationError: if there is none of this name.
    """
    record = connection.sweeps.get(name)
    if record is not None:
        return record, tuple(connection.sweeps.members(record))
    runs = submitted_into(name, connection)
    if not runs:
        raise OperationError(
            f"there is no sweep {name!r}: neither `spotkeeper sweep submit` made one, nor was one of the newest "
            f"{_MOST_RUNS:,} open and {_MOST_RUNS:,} ended runs submitted with --sweep {name}"
        )
    return SweepRecord(name=name, created_at=runs[0].created_at, size=len(runs), parameters=(), digest=""), runs


def submitted_into(name: str, connection: Connection) -> tuple[Run, ...]:
    """Return the runs that were each submitted with `--sweep`, of the newest, the oldest of them first."""
    listed = (connection.ledger.list_runs(listing, _MOST_RUNS) for listing in (LISTING_OPEN, LISTING_CLOSED))
    # A run that ends between the two looks is in both.
    found = {run.run_id: run for runs in listed for run in runs if run.sweep == name}
    return tuple(sorted(found.values(), key=lambda run: (run.created_at, run.run_id)))


def refuse_sweep(name: str, connection: Connection) -> None:
    """Say of a name that is taken for a run's that it is a sweep's.

    Raises:
        OperationError: if it is.
    """
    if connection.sweeps.get(name) is not None or submitted_into(name, connection):
        raise OperationError(
            f"{name!r} is a sweep: `spotkeeper sweep status {name}` shows its members, each a run; "
            f"`spotkeeper sweep cancel {name}` cancels them all"
        )


def counts(record: SweepRecord, members: Sequence[Run]) -> dict[str, int]:
    """Return how many members are in each state, in the order in which a run passes through them."""
    found = Counter(member.state for member in members)
    told = {state.value: found[state] for state in RunState if found[state]}
    missing = record.size - len(members)
    return {**told, "not recorded yet": missing} if missing else told


def look_at(members: Sequence[Run], connection: Connection) -> tuple[MemberStatus, ...]:
    """Gather attempts and checkpoints of some members."""
    return tuple(
        MemberStatus(
            run=member,
            num_attempts=len(connection.ledger.attempts(member.run_id)),
            step=_newest_step(member, connection),
        )
        for member in members
    )


def _newest_step(run: Run, connection: Connection) -> int | None:
    mirrors = connection.ports.mirrors
    if not run.is_isolated or mirrors is None:
        return connection.ports.checkpoints.newest_step(run.run_id)
    newest = mirrors.newest_whole(run.run_id)
    return newest.step if newest is not None else None


def show(
    record: SweepRecord,
    members: Sequence[Run],
    shown: Sequence[MemberStatus],
    console: Console,
    *,
    now: datetime,
    pasteable: Callable[[str], str] = str,
) -> None:
    """Print how many members are in each state, and a table of those that are shown, their hints `pasteable`.

    The table has the words of `spotkeeper status`; what is counted are the states, by which members can be chosen.
    """
    told = ", ".join(f"{number} {state}" for state, number in counts(record, members).items())
    console.print(Text(f"sweep {record.name}: {record.size} members: {told}"))
    table = Table(box=None, pad_edge=False)
    for column in ("MEMBER", *record.parameters, "STATE", "ATTEMPTS", "STEP", "REASON"):
        table.add_column(column, overflow="fold")
    for member in shown:
        run = member.run
        own = (run.variables.get(name) for name in record.parameters)
        why = pasteable(reason(run, now=now) or "")
        cells = (run.run_id, *own, state_word(run), member.num_attempts, member.step, why)
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
    console.print(table)
    if len(shown) < len(members):
        console.print(Text(f"{len(members) - len(shown)} more: --limit"))
