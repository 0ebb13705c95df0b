"""The ledger's sweeps in memory, and a program's way to them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from spotkeeper.contract.names import member_id
from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord
from tests.simulation.fakes import LedgerTable, Link

T = TypeVar("T")


class Watcher(Protocol):
    """Is told of every change of a sweep's record."""

    def sweep_marked(self, sweep: SweepRecord) -> None: ...


class SweepTable:
    """Sweeps beside the runs. Every method is atomic."""

    def __init__(self, table: LedgerTable, watcher: Watcher) -> None:
        self.records: dict[str, SweepRecord] = {}
        self.table = table
        self._watcher = watcher

    def create(self, sweep: SweepRecord) -> SweepRecord:
        if sweep.name in self.records:
            raise Conflict
        self.records[sweep.name] = sweep
        return sweep

    def mark_sent(self, sweep: SweepRecord, at: str | None) -> SweepRecord:
        stored = self.records[sweep.name]
        if stored.sent_at != sweep.sent_at:
            raise Conflict
        after = self.records[sweep.name] = replace(stored, sent_at=at)
        self._watcher.sweep_marked(after)
        return after

    def create_members(self, runs: Sequence[Run], writer: str) -> None:
        """Put them all, or none where one is there already."""
        if any(run.run_id in self.table.runs for run in runs):
            raise Conflict
        for run in runs:
            self.table.create(run, writer)

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if run.run_id not in self.table.runs]


class LinkedSweeps:
    """`ports.Sweeps` over a link: what the adapter does with a reply that says no is done here too."""

    def __init__(self, sweeps: SweepTable, link: Link) -> None:
        self._sweeps, self._link = sweeps, link

    def _read(self, operation: str, effect: Callable[[], T]) -> T:
        return self._link.call(operation, self._link.swarm.read, effect, lost=ConnectionError)

    def _write(self, operation: str, effect: Callable[[], T]) -> T:
        return self._link.call(operation, self._link.swarm.write, effect, lost=ConnectionError)

    def create(self, sweep: SweepRecord) -> SweepRecord:
        try:
            return self._write("sweeps.create", lambda: self._sweeps.create(sweep))
        except Conflict:
            return self.get(sweep.name) or sweep

    def get(self, name: str) -> SweepRecord | None:
        return self._read("sweeps.get", lambda: self._sweeps.records.get(name))

    def mark_sent(self, sweep: SweepRecord, *, at: str | None) -> SweepRecord:
        return self._write("sweeps.mark_sent", lambda: self._sweeps.mark_sent(sweep, at))

    def create_members(self, runs: Sequence[Run]) -> None:
        missing = self._missing(runs)
        while missing:
            try:
                self._put(missing)
            except Conflict:
                before, missing = missing, self._missing(runs)
                if missing == before:
                    raise Throttled from None
            else:
                return

    def _missing(self, runs: Sequence[Run]) -> list[Run]:
        return self._read("sweeps.create_members, read", lambda: self._sweeps.missing(runs))

    def _put(self, runs: Sequence[Run]) -> None:
        self._write("sweeps.create_members", lambda: self._sweeps.create_members(runs, self._link.name))

    def members(self, sweep: SweepRecord) -> Iterator[Run]:
        def found() -> tuple[Run, ...]:
            ids = (member_id(sweep.name, index) for index in range(sweep.size))
            return tuple(self._sweeps.table.runs[run_id] for run_id in ids if run_id in self._sweeps.table.runs)

        yield from self._read("sweeps.members", found)
