"""The ports, in memory: the truth is atomic, and what lies between it and a program is not to be trusted.

`LedgerTable` and `ObjectStore` hold the truth. A `Link` is one program's way to the world: every call over it gives way
to other programs first, and may be slow, refused, cut off before or after its effect, or end the program.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from spotkeeper.contract import tags
from spotkeeper.contract.checkpoint_layout import commit_prefix, parse_manifest_key
from spotkeeper.contract.ledger import PARTITION_KEY, SORT_KEY, RunState, run_partition
from spotkeeper.control.budget import Budget, Reservation, Switch
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.ports import Conflict, Job, NotAllowed, QuotaReached, Refused, ReplyLost, Throttled
from spotkeeper.control.run import Attempt, Completion, HistoryEvent, Interruption, Run
from spotkeeper.control.submission_rate import SUBMISSIONS_PER_SECOND
from spotkeeper.policy.placement import Market
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.store import Stat
from tests.simulation import faults
from tests.simulation.budget_table import BudgetTable
from tests.simulation.choices import Choices, Table
from tests.simulation.expressions import plain, update_item
from tests.simulation.faults import Swarm
from tests.simulation.listed import in_order
from tests.simulation.sched import Scheduler, Stopped

T = TypeVar("T")

LATENCY_SECONDS = 0.05
_RUN_FIELDS = tuple(field.name for field in fields(Run))
_ATTEMPT_FIELDS = frozenset(field.name for field in fields(Attempt))

Trace = Callable[[str, str], None]
"""Takes who and what."""


_REFUSALS = {faults.THROTTLED: Throttled, faults.REFUSED: Refused, faults.NOT_ALLOWED: NotAllowed}


class Watcher(Protocol):
    """Is told of every change, at once."""

    def run_changed(self, before: Run | None, after: Run, writer: str) -> None: ...
    def money_changed(self, table: BudgetTable) -> None: ...
    def attempt_changed(self, before: Attempt, after: Attempt, writer: str) -> None: ...
    def slot_taken(self, second: int, num_taken: int, writer: str) -> None: ...
    def start_recorded(self, queue: str, at: str) -> None: ...
    def job_requested(self, name: str, writer: str) -> None: ...
    def job_stopped(self, job_id: str, writer: str) -> None: ...
    def object_created(self, key: str, writer: str) -> None: ...


class LedgerTable:
    """The ledger's items. Every method is atomic."""

    def __init__(self, watcher: Watcher) -> None:
        self.runs: dict[str, Run] = {}
        self.attempts: dict[tuple[str, int, int], Attempt] = {}
        self.interruptions: dict[str, Interruption] = {}
        self.events: dict[tuple[str, str, str], HistoryEvent] = {}
        self.slots: dict[int, Counter[str]] = {}
        """By second, then by team."""
        self.positions: dict[str, Position] = {}
        self.starts: dict[str, str] = {}
        """By queue."""
        self._watcher = watcher
        self.money = BudgetTable(self.check, self.advance, self._money_changed)

    def _money_changed(self) -> None:
        self._watcher.money_changed(self.money)

    def check(self, run: Run) -> None:
        stored = self.runs.get(run.run_id)
        if stored is None or stored.version != run.version:
            raise Conflict

    def put_run(self, run: Run, writer: str) -> None:
        before = self.runs.get(run.run_id)
        self.runs[run.run_id] = run
        self._watcher.run_changed(before, run, writer)

    def create(self, run: Run, writer: str) -> Run:
        known = self.runs.get(run.run_id)
        if known is None:
            self.put_run(run, writer)
        elif known != run:
            raise Conflict
        return run

    def advance(self, run: Run, changes: Mapping[str, Any], writer: str) -> Run:
        after = run.advanced(**changes)
        self.check(run)
        stored = self.runs[run.run_id]
        self.put_run(replace(stored, version=after.version, **changes), writer)
        return after

    def record_attempt(self, attempt: Attempt, changes: Mapping[str, Any], writer: str) -> Attempt:
        key = (attempt.run_id, attempt.submission, attempt.attempt)
        stored = self.attempts.get(key) or Attempt(run_id=key[0], submission=key[1], attempt=key[2])
        if stored.version != attempt.version:
            raise Conflict
        self.attempts[key] = replace(stored, version=stored.version + 1, **changes)
        self._watcher.attempt_changed(stored, self.attempts[key], writer)
        return replace(attempt, version=attempt.version + 1, **changes)

    def take_slot(self, second: int, team: str, *, limit: int, team_limit: int, is_crowded: bool, writer: str) -> bool:
        taken = self.slots.setdefault(second, Counter())
        if is_crowded:
            taken["others"] += SUBMISSIONS_PER_SECOND - taken.total()
        if taken.total() >= limit or taken[team] >= team_limit:
            return False
        taken[team] += 1
        self._watcher.slot_taken(second, taken.total(), writer)
        return True

    def record_start(self, queue: str, at: str) -> None:
        self.starts[queue] = max(at, self.starts.get(queue, at))
        self._watcher.start_recorded(queue, at)

    def record_interruption(self, told: Interruption) -> None:
        known = self.interruptions.get(told.instance_id, told)
        self.interruptions[told.instance_id] = Interruption(
            instance_id=told.instance_id,
            warned_at=known.warned_at or told.warned_at,
            action=known.action or told.action,
            rebalance_at=known.rebalance_at or told.rebalance_at,
        )

    def update_run(self, run_id: str, request: Mapping[str, Any], writer: str) -> Run:
        """Carry out the conditional write that an attempt sends.

        Raises:
            ConditionFailed: and nothing is written.
        """
        assert request["Key"][PARTITION_KEY] == {"S": run_partition(run_id)}
        run = self.runs.get(run_id)
        changes = update_item(item_of(run) if run else {}, request)
        assert run is not None, "the writes of an attempt are conditional on a run's attributes"
        if "state" in changes:
            changes["state"] = RunState(changes["state"])
        if "completion" in changes:
            changes["completion"] = Completion(**changes["completion"])
        after = replace(run, **changes)
        self.put_run(after, writer)
        return after

    def update_attempt(self, run_id: str, request: Mapping[str, Any]) -> None:
        """Carry out the unconditional write by which an attempt says where it runs."""
        _, submission, attempt = request["Key"][SORT_KEY]["S"].split("#")
        key = (run_id, int(submission), int(attempt))
        stored = self.attempts.get(key) or Attempt(run_id=run_id, submission=key[1], attempt=key[2])
        told = {name[1:]: plain(value) for name, value in request["ExpressionAttributeValues"].items()}
        self.attempts[key] = replace(stored, **{name: told[name] for name in told if name in _ATTEMPT_FIELDS})


def item_of(run: Run) -> dict[str, Any]:
    """Return the run's attributes as its DynamoDB item has them."""
    return {name: value for name in _RUN_FIELDS if (value := getattr(run, name)) is not None}


class ObjectStore:
    """The checkpoint bucket."""

    def __init__(self, watcher: Watcher) -> None:
        self.objects: dict[str, tuple[bytes, str | None]] = {}
        self._watcher = watcher

    def create(self, key: str, body: bytes, crc64nvme: str | None, writer: str) -> bool:
        if key in self.objects:
            return False
        self.objects[key] = (body, crc64nvme)
        self._watcher.object_created(key, writer)
        return True


class Link:
    """How one program reaches the world.

    Args:
        name: Whose link it is, in decisions and in the trace.
        swarm: The faults of this seed.
        deadline_seconds: Virtual time at which the program is killed by whoever runs it (a handler's time-out).
        crash: What else a crash does; a container that crashes takes its host with it.
    """

    def __init__(
        self,
        name: str,
        *,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        trace: Trace,
        deadline_seconds: float | None = None,
        crash: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.swarm = swarm
        self._scheduler = scheduler
        self._choices = choices
        self._trace = trace
        self._deadline_seconds = deadline_seconds
        self._crash = crash

    def call(self, operation: str, table: Table, effect: Callable[[], T], *, lost: type[Exception]) -> T:
        """Make one call; `lost` is how the port reports that no answer came."""
        fault = self._choices.draw(f"{self.name}: {operation}", table)
        is_slow = isinstance(fault, float)
        self._scheduler.pause(fault if is_slow else LATENCY_SECONDS)
        if self._deadline_seconds is not None and self._scheduler.now_seconds > self._deadline_seconds:
            effect()  # it was on its way
            self._trace(self.name, f"timed out in {operation}")
            raise Stopped
        if fault is None or is_slow:
            return effect()
        self._trace(self.name, f"{operation}: {fault}")
        if fault == faults.STALE:
            raise _Stale
        if fault == faults.CROWDED:
            raise _Crowded
        if fault in _REFUSALS:
            raise _REFUSALS[fault](operation)
        if fault == faults.CRASH_BEFORE:
            self._die()
        if fault == faults.REQUEST_LOST:
            raise lost(operation)
        effect()
        if fault == faults.CRASH_AFTER:
            self._die()
        raise Conflict if fault == faults.REPEATED else lost(operation)

    def _die(self) -> None:
        if self._crash is not None:
            self._scheduler.after(0.0, self._crash)
        raise Stopped


class _Stale(Exception):  # noqa: N818
    """The answer shows an earlier state."""


class _Crowded(Exception):  # noqa: N818
    """Many others ask for the same."""


class LinkedLedger:
    """`ports.Ledger` over a link."""

    def __init__(self, table: LedgerTable, link: Link) -> None:
        self._table = table
        self._link = link

    def _read(self, operation: str, effect: Callable[[], T]) -> T:
        return self._link.call(operation, self._link.swarm.read, effect, lost=ConnectionError)

    def _write(self, operation: str, effect: Callable[[], T]) -> T:
        return self._link.call(operation, self._link.swarm.write, effect, lost=ConnectionError)

    def create(self, run: Run) -> Run:
        try:
            return self._write("ledger.create", lambda: self._table.create(run, self._link.name))
        except Conflict:
            # As the adapter does: the client may have repeated a put that had succeeded.
            if self.get(run.run_id) != run:
                raise
            return run

    def get(self, run_id: str) -> Run | None:
        return self._read("ledger.get", lambda: self._table.runs.get(run_id))

    def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        def found() -> tuple[Run, ...]:
            return tuple(self._table.runs[run_id] for run_id in run_ids if run_id in self._table.runs)

        return self._read("ledger.get_many", found)

    def advance(self, run: Run, **changes: Any) -> Run:
        return self._write("ledger.advance", lambda: self._table.advance(run, changes, self._link.name))

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        items = self._table.attempts
        return self._read("ledger.attempts", lambda: tuple(items[key] for key in sorted(items) if key[0] == run_id))

    def record_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        return self._write(
            "ledger.record_attempt", lambda: self._table.record_attempt(attempt, changes, self._link.name)
        )

    def record_interruption(self, interruption: Interruption, *, expires_at: int) -> None:
        assert expires_at > 0
        self._write("ledger.record_interruption", lambda: self._table.record_interruption(interruption))

    def interruption_of(self, instance_id: str) -> Interruption | None:
        return self._read("ledger.interruption_of", lambda: self._table.interruptions.get(instance_id))

    def list_runs(self, listing: str, limit: int) -> tuple[Run, ...]:
        def newest() -> tuple[Run, ...]:
            listed = [run for run in self._table.runs.values() if run.listing == listing]
            return tuple(sorted(listed, key=lambda run: (run.created_at, run.run_id), reverse=True)[:limit])

        return self._read("ledger.list_runs", newest)

    def open_runs(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        def oldest() -> list[Listed]:
            runs = self._table.runs.values()
            listed = [Listed(created_at=run.created_at, run_id=run.run_id) for run in runs if not run.is_closed]
            return in_order(listed, behind)

        yield from self._read("ledger.open_runs", oldest)

    def position(self, listing: str) -> Position | None:
        return self._read("ledger.position", lambda: self._table.positions.get(listing))

    def keep_position(self, listing: str, position: Position) -> None:
        self._write("ledger.keep_position", lambda: self._table.positions.update({listing: position}))

    def record_start(self, queue: str, *, at: str) -> None:
        self._write("ledger.record_start", lambda: self._table.record_start(queue, at))

    def last_start(self, queue: str) -> str | None:
        return self._read("ledger.last_start", lambda: self._table.starts.get(queue))

    def take_submission_slot(self, *, second: int, team: str, limit: int, team_limit: int) -> bool:
        def take(*, is_crowded: bool) -> bool:
            return self._table.take_slot(
                second, team, limit=limit, team_limit=team_limit, is_crowded=is_crowded, writer=self._link.name
            )

        try:
            return self._link.call(
                "ledger.take_submission_slot",
                self._link.swarm.slot,
                lambda: take(is_crowded=False),
                lost=ConnectionError,
            )
        except _Crowded:
            return take(is_crowded=True)

    def append_event(self, run_id: str, event: HistoryEvent) -> None:
        key = (run_id, event.at, event.event_id)
        self._write("ledger.append_event", lambda: self._table.events.setdefault(key, event))

    def history(self, run_id: str) -> tuple[HistoryEvent, ...]:
        items = self._table.events
        return self._read("ledger.history", lambda: tuple(items[key] for key in sorted(items) if key[0] == run_id))


class BatchService(Protocol):
    """The truth behind `ports.Batch`."""

    def submit(self, request: Mapping[str, Any]) -> str: ...
    def refuse(self, request: Mapping[str, Any]) -> None: ...
    def named(self, name: str, queue: str, *, settled: bool) -> tuple[Job, ...]: ...
    def describe(self, job_id: str) -> Job | None: ...
    def terminate(self, job_id: str, reason: str) -> None: ...
    def withdraw(self, job_id: str, reason: str) -> None: ...


class LinkedBudgets:
    """`ports.Budgets` over a link."""

    def __init__(self, table: LedgerTable, link: Link) -> None:
        self._table, self._link = table, link

    def _read(self, operation: str, effect: Callable[[], T]) -> T:
        return self._link.call(operation, self._link.swarm.read, effect, lost=ConnectionError)

    def _write(self, operation: str, effect: Callable[[BudgetTable], T]) -> T:
        def write() -> T:
            self._table.money.writer = self._link.name
            return effect(self._table.money)

        return self._link.call(operation, self._link.swarm.write, write, lost=ConnectionError)

    def get(self, holder: str) -> Budget | None:
        return self._read("budgets.get", lambda: self._table.money.budgets.get(holder))

    def open(self, budget: Budget) -> Budget:
        return self._write("budgets.open", lambda table: table.open(budget))

    def set_limits(self, budget: Budget, *, fallback: int, total: int, is_deployed: bool = False) -> Budget:
        limits: Any = {"fallback": fallback, "total": total, "is_deployed": is_deployed}
        return self._write("budgets.set_limits", lambda table: table.set_limits(budget, **limits))

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        return self._write(
            "budgets.reserve",
            lambda table: table.reserve(run, reservation, switch=switch, exempt=exempt, **changes),
        )

    def extend(self, reservation: Reservation, microusd: int) -> Reservation:
        return self._write("budgets.extend", lambda table: table.extend(reservation, microusd))

    def roll_over(
        self, reservation: Reservation, spent_microusd: int, *, holders: tuple[str, ...], microusd: int, at: str
    ) -> Reservation:
        return self._write(
            "budgets.roll_over",
            lambda table: table.roll_over(reservation, spent_microusd, holders=holders, microusd=microusd, at=at),
        )

    def settle(self, reservation: Reservation, spent_microusd: int, *, at: str) -> Reservation:
        return self._write("budgets.settle", lambda table: table.settle(reservation, spent_microusd, at=at))

    def reservations(self, run_id: str) -> tuple[Reservation, ...]:
        return self._read("budgets.reservations", lambda: self._table.money.reservations(run_id))

    def get_many(self, entries: Sequence[Listed]) -> tuple[Reservation, ...]:
        return self._read("budgets.get_many", lambda: self._table.money.get_many(entries))

    def unsettled(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        yield from self._read("budgets.unsettled", lambda: tuple(self._table.money.unsettled(behind=behind)))

    def switch(self) -> Switch:
        return self._read("budgets.switch", lambda: self._table.money.turned)

    def turn(self, switch: Switch, *, is_off: bool, reason: str | None) -> Switch:
        return self._write("budgets.turn", lambda table: table.turn(switch, is_off=is_off, reason=reason))


def _asked(request: Mapping[str, Any]) -> tuple[str, str]:
    """Return name of the submission and market of a request, whichever service it is for."""
    if "TrainingJobName" not in request:
        return request["jobName"], request["tags"][tags.MARKET]
    market = next(tag["Value"] for tag in request["Tags"] if tag["Key"] == tags.MARKET)
    return request["TrainingJobName"].partition("-")[2], market


class LinkedBatch:
    """`ports.Batch` over a link."""

    def __init__(self, service: BatchService, link: Link, watcher: Watcher) -> None:
        self._service = service
        self._link = link
        self._watcher = watcher

    def submit(self, request: Mapping[str, Any]) -> str:
        name, market = _asked(request)
        self._watcher.job_requested(name, self._link.name)
        swarm = self._link.swarm
        table = swarm.submit_on_demand if market == Market.ON_DEMAND else swarm.submit
        try:
            return self._link.call("batch.submit", table, lambda: self._service.submit(request), lost=ReplyLost)
        except (NotAllowed, QuotaReached):
            raise  # which says nothing about the request
        except Refused:
            self._service.refuse(request)
            raise

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        try:
            return self._link.call(
                "batch.find",
                self._link.swarm.look_up,
                lambda: self._service.named(name, queue, settled=False),
                lost=ConnectionError,
            )
        except _Stale:
            return self._service.named(name, queue, settled=True)

    def describe(self, job_id: str) -> Job | None:
        try:
            return self._link.call(
                "batch.describe", self._link.swarm.look_up, lambda: self._service.describe(job_id), lost=ConnectionError
            )
        except _Stale:
            return None

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        def found() -> tuple[Job, ...]:
            described = [self._service.describe(job_id) for job_id in job_ids]
            return tuple(job for job in described if job is not None)

        try:
            return self._link.call("batch.describe_many", self._link.swarm.look_up, found, lost=ConnectionError)
        except _Stale:
            return ()

    def terminate(self, job_id: str, reason: str) -> None:
        self._watcher.job_stopped(job_id, self._link.name)
        self._link.call(
            "batch.terminate",
            self._link.swarm.read,
            lambda: self._service.terminate(job_id, reason),
            lost=ConnectionError,
        )

    def withdraw(self, job_id: str, reason: str) -> None:
        self._watcher.job_stopped(job_id, self._link.name)
        self._link.call(
            "batch.withdraw",
            self._link.swarm.read,
            lambda: self._service.withdraw(job_id, reason),
            lost=ConnectionError,
        )


class LinkedCheckpoints:
    """`ports.Checkpoints` over a link."""

    def __init__(self, store: ObjectStore, link: Link) -> None:
        self._store = store
        self._link = link

    def newest_step(self, run_id: str) -> int | None:
        def newest() -> int | None:
            keys = (key for key in self._store.objects if key.startswith(commit_prefix(run_id)))
            positions = [position for key in keys if (position := parse_manifest_key(key)) is not None]
            return max(positions)[1] if positions else None

        return self._link.call("checkpoints.newest_step", self._link.swarm.read, newest, lost=ConnectionError)


class LinkedStore:
    """`trainer.store.Store` over a link. Reading does not fail here: tests/trainer damages checkpoints."""

    def __init__(self, store: ObjectStore, link: Link) -> None:
        self._store = store
        self._link = link

    def put_if_absent(self, key: str, body: bytes) -> bool:
        return self._link.call(
            f"store.create {key.partition('/')[0]}",
            self._link.swarm.store,
            lambda: self._store.create(key, body, None, self._link.name),
            lost=OSError,
        )

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
        body = b"".join(chunks)
        assert len(body) == total_bytes
        checksum = crc64nvme(body)
        created = self._link.call(
            "store.put",
            self._link.swarm.store,
            lambda: self._store.create(key, body, checksum, self._link.name),
            lost=OSError,
        )
        assert created, f"{key} was used before"
        return checksum

    def get(self, key: str) -> bytes:
        if key not in self._store.objects:
            raise FileNotFoundError(key)
        return self._store.objects[key][0]

    def fetch(self, key: str, total_bytes: int, into: Path | None = None) -> memoryview:  # noqa: ARG002
        assert into is None, "no folders in a simulation"
        return memoryview(self.get(key))

    def head(self, key: str) -> Stat | None:
        stored = self._store.objects.get(key)
        return None if stored is None else Stat(bytes=len(stored[0]), crc64nvme=stored[1])

    def list(self, prefix: str) -> list[str]:
        return self._link.call(
            f"store.list {prefix.partition('/')[0]}",
            (),
            lambda: sorted(key for key in self._store.objects if key.startswith(prefix)),
            lost=OSError,
        )

    def delete(self, key: str) -> None:
        self._store.objects.pop(key, None)
