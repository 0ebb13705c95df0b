"""The whole world of one simulation, in two phases: safety under faults, then healing, after which all must settle."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final

from spotkeeper.contract.budgets import kind_of, start_of
from spotkeeper.contract.events import HOST_LOST_STATUS_REASON
from spotkeeper.control.budget import UNLIMITED_MICROUSD
from spotkeeper.control.classify import WAITED_REASON, Cause, instance_of
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Ports
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.placement import Mode
from tests.simulation.attempt import TRAINING_SECONDS, Container
from tests.simulation.batch import CAPACITY_CANCEL, Batch, BatchJob, Hooks
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.delivery import Delivery, Message
from tests.simulation.environment import ON_DEMAND_USD_PER_HOUR, TEARDOWN_SECONDS, terms_with
from tests.simulation.fakes import Link, LinkedBatch, LinkedBudgets, LinkedCheckpoints, LinkedLedger, ObjectStore
from tests.simulation.faults import Swarm
from tests.simulation.invariants import Invariants, require
from tests.simulation.operators import GENEROUS_USD, Operator
from tests.simulation.programs import HANDLERS, HOST_NOTICED, JOB_CHANGED, PASSING, PERIODIC, Bound, Programs
from tests.simulation.sched import Program, Scheduler

FAULTY_SECONDS: Final = (86400.0, 3600.0, 10800.0)
SETTLED_SECONDS: Final = 2 * 86400.0
INSISTING: Final = 3
GENEROUS_AFTER_SECONDS: Final = 60.0
NEW_MONTH: Final = "2026-12"
"""Begins four hours in."""


def _be_generous(bound: Bound) -> None:
    """Raise the total caps of all who are no run: faults have ceased, and nobody is to wait for the next month."""
    for holder in bound.holders:
        budget = bound.ports.budgets.get(holder)
        if budget is not None and kind_of(holder) != "run" and budget.total.limit != UNLIMITED_MICROUSD:
            fallback, total = budget.fallback.limit, GENEROUS_USD * MICROUSD_PER_USD
            bound.ports.budgets.set_limits(budget, fallback=fallback, total=total)


class World:
    """Everything of one seed."""

    def __init__(self, choices: Choices, swarm: Swarm, programs: Programs, trace: list[str] | None) -> None:
        self.scheduler = Scheduler(self._is_settled)
        self.invariants = Invariants(self)
        self.table = programs.table(self.invariants)
        self._choices, self._swarm, self._programs = choices, swarm, programs
        self._lines = trace
        self._warned: set[str] = set()
        month_usd = choices.among("fallback cap of a month", (1000, 1000, 5, 3, 0))
        total_usd = choices.among("total cap of a month", (None, None, None, 60, 4))
        self._fallback_cap = month_usd * MICROUSD_PER_USD
        self._terms = terms_with(self._fallback_cap, total_usd and total_usd * MICROUSD_PER_USD)
        sweep_usd = choices.among("total cap of a sweep", (None, None, None, 20, 4))
        self._store = ObjectStore(self.invariants)
        hooks = Hooks(
            start_container=self._start_container,
            job_created=self._job_created,
            job_changed=self._job_changed,
            host_noticed=self._host_noticed,
        )
        self.batch = Batch(self.scheduler, choices, swarm, self._trace, hooks)
        self._delivery = Delivery(self.scheduler, choices, swarm, self._trace, self._handle)
        self._operators = [
            Operator(
                f"r{number}",
                scheduler=self.scheduler,
                choices=choices,
                swarm=swarm,
                table=self.table,
                command=self._command,
                sweep_cap_microusd=sweep_usd and sweep_usd * MICROUSD_PER_USD,
            )
            for number in range(1, choices.among("runs", (1, 2, 3)) + 1)
        ]
        if choices.draw("somebody turns the switch", swarm.switch) is not None:
            period_seconds = choices.among("turned every", (1800.0, 97.0, 431.0, 7000.0))
            for number in range(choices.among("turned so often", (2, 8, 24))):
                self.scheduler.after(period_seconds * (number + 1), partial(self._turn, is_off=number % 2 == 0))
        for name, (period_seconds, limit_seconds, body) in PERIODIC.items():
            self._every(name, period_seconds, limit_seconds, body)

    def live(self) -> None:
        """Run both phases.

        Raises:
            Violation: an invariant does not hold.
        """
        self.scheduler.run(until_seconds=self._choices.among("heals after", FAULTY_SECONDS))
        self._trace("world", "heals: no faults from here on")
        self._choices.calm()
        self._delivery.cease()
        if self._terms.limits.total_microusd is not None:  # a new month begins with more
            self._terms = terms_with(self._fallback_cap, GENEROUS_USD * MICROUSD_PER_USD)
        for _ in range(INSISTING):  # what still came of faults may park a run once more
            self._turn(is_off=False)
            self._command("caps of all", _be_generous)
            self.scheduler.run(self.scheduler.now_seconds + GENEROUS_AFTER_SECONDS)
            for operator in self._operators:
                operator.insist()
            self.scheduler.run(self.scheduler.now_seconds + SETTLED_SECONDS)
        self._check_settled()
        self._trace("world", "has settled without events; they come now")
        for _ in range(2):  # the first may be what settles a message or a command of before
            self._delivery.redrive()
            for job in self.batch.jobs.values():
                self._delivery.emit(f"{job.job_id} once more", JOB_CHANGED, job.job_id)
            self.scheduler.run(self.scheduler.now_seconds + SETTLED_SECONDS)
        self._check_settled()
        self._check_messages()
        self._check_attempts()
        self.invariants.check_bills(self.table.money, self._bills())
        self.invariants.check_month(self.table.money, NEW_MONTH, self._leased_in_the_new_month())

    def digest(self) -> str:
        """Return a hash of everything that the world has come to."""
        state = (
            sorted(self.table.runs.items()),
            sorted(self.table.attempts.items()),
            sorted(self.table.interruptions.items()),
            [(job.job_id, job.status, job.status_reason, job.attempts) for job in self.batch.jobs.values()],
            self.scheduler.num_steps,
            self.scheduler.now_seconds,
        )
        return hashlib.sha256(repr(state).encode()).hexdigest()

    # What invariants compare

    def has_run(self, run_id: str) -> bool:
        """Tell whether the ledger has the run."""
        return run_id in self.table.runs

    def has_ended(self, job_id: str) -> bool:
        """Tell whether Batch has done with the job."""
        return self.batch.jobs[job_id].has_ended

    def lacked_capacity(self, job_id: str) -> bool:
        """Tell whether Batch, or the control plane, gave the job up because there was no machine."""
        return self.batch.jobs[job_id].status_reason in (CAPACITY_CANCEL, WAITED_REASON)

    def has_told(self, run_id: str, event_id: str) -> bool:
        """Tell whether the run's history has an event."""
        return any(key[0] == run_id and key[2] == event_id for key in self.table.events)

    def has_deadline(self, run_id: str) -> bool:
        """Tell whether the run may cross its own cap."""
        return self.table.runs[run_id].mode == Mode.DEADLINE_FIRST

    def is_refused(self, name: str) -> bool:
        """Tell whether Batch has rejected a submission of this name."""
        return name in self.batch.refused_names

    def is_denied(self, name: str) -> bool:
        """Tell whether somebody was not allowed to submit this name."""
        return name in self.batch.denied_names

    def _check_settled(self) -> None:
        self.invariants.check_settled(self.table.runs.values(), unable=self._unable())
        for job in self.batch.jobs.values():
            require(job.has_ended, "I1 no job is lost", f"{job.job_id} is {job.status} for ever")

    def _check_messages(self) -> None:
        for message in self._delivery.messages:
            require(
                message.is_acknowledged or message.is_lost, "I8 nothing silent", f"{message.name} was never handled"
            )

    def _check_attempts(self) -> None:
        for run in self.table.runs.values():
            if run.job_id is None:
                continue
            job = self.batch.jobs[run.job_id]
            for number, told in enumerate(job.attempts, start=1):
                known = self.table.attempts.get((run.run_id, run.submission, number))
                require(
                    known is not None and known.stopped_at == told.stopped_at and known.cause is not None,
                    "I8 every attempt is accounted for",
                    f"{job.job_id}#{number} ended at {told.stopped_at}; the ledger has {known and known.stopped_at}",
                )
                host = instance_of(known) if known is not None else None
                is_warned_loss = (told.status_reason or "").startswith(HOST_LOST_STATUS_REASON) and host in self._warned
                require(
                    not is_warned_loss or (known is not None and known.cause == Cause.INTERRUPTED),
                    "I8 every attempt is accounted for",
                    f"{job.job_id}#{number} was interrupted; the ledger has {known and known.cause}",
                )

    def _bills(self) -> dict[tuple[str, int], int]:
        """Return what EC2 bills, in micro-dollars, for the on-demand jobs of each submission."""
        bills: dict[tuple[str, int], int] = {}
        for job in self.batch.jobs.values():
            if not job.is_on_demand:
                continue
            run_id, _, submission = job.name.rpartition("-")
            used = sum((host.released_seconds or 0.0) - host.launched_seconds for host in job.hosts)
            seconds = used + TEARDOWN_SECONDS * len(job.hosts)
            key = (run_id, int(submission))
            bills[key] = bills.get(key, 0) + cost_microusd(ON_DEMAND_USD_PER_HOUR, seconds)
        return bills

    def _leased_in_the_new_month(self) -> int:
        """Return what containers on spot used of the new month, in micro-dollars, where spot is leased."""
        used = 0
        for job in self.batch.jobs.values():
            run_id, _, submission = job.name.rpartition("-")
            reservation = self.table.money.reserved.get((run_id, int(submission)))
            if job.is_on_demand or reservation is None:
                continue
            for told in job.attempts:
                if told.started_at and told.stopped_at:
                    seconds = seconds_between(max(told.started_at, start_of(NEW_MONTH)), told.stopped_at)
                    used += max(0, cost_microusd(ON_DEMAND_USD_PER_HOUR, seconds) - 1)
        return used

    def _unable(self) -> set[str]:
        """Runs that no machine can bring forward: they save nothing, and the time limit ends each attempt."""
        unsaved = (operator.run for operator in self._operators if operator.program == "plain")
        return {run.run_id for run in unsaved if run.attempt_seconds < TRAINING_SECONDS}

    # Programs

    def _bound(self, name: str, deadline_seconds: float | None, skew_seconds: float = 0.0) -> Bound:
        link = Link(
            name,
            scheduler=self.scheduler,
            choices=self._choices,
            swarm=self._swarm,
            trace=self._trace,
            deadline_seconds=deadline_seconds,
        )
        ports = Ports(
            ledger=LinkedLedger(self.table, link),
            budgets=LinkedBudgets(self.table, link),
            batch=LinkedBatch(self.batch, link, self.invariants),
            checkpoints=LinkedCheckpoints(self._store, link),
            terms=self._terms,
        )
        return Bound(
            programs=self._programs,
            ports=ports,
            clock=lambda: iso(self.scheduler.now_seconds + skew_seconds),
            holders=tuple(self.table.money.budgets),
            seconds_left=lambda: (deadline_seconds or self.scheduler.now_seconds) - self.scheduler.now_seconds,
        )

    def _command(self, name: str, body: Callable[[Bound], None], skew_seconds: float = 0.0) -> None:
        def run() -> None:
            try:
                body(self._bound(name, None, skew_seconds))
            except PASSING as error:
                self._trace(name, f"ends with {type(error).__name__}")

        self.scheduler.start(name, run)

    def _handle(self, message: Message, name: str, deadline_seconds: float, acknowledge: Callable[[], None]) -> Program:
        def run() -> None:
            try:
                word = HANDLERS[message.kind](message.subject, message.at, self._bound(name, deadline_seconds))
            except PASSING as error:
                self._trace(name, f"fails with {type(error).__name__}")
                return
            self._trace(name, word)
            acknowledge()

        return self.scheduler.start(name, run)

    def _every(self, name: str, period_seconds: float, limit_seconds: float, body: Callable[[Bound], str]) -> None:
        def run() -> None:
            began_seconds = self.scheduler.now_seconds
            who = f"{name} {began_seconds:.0f}"
            try:
                self._trace(who, body(self._bound(who, began_seconds + limit_seconds)))
            except PASSING as error:
                self._trace(who, f"fails with {type(error).__name__}")

        def start() -> None:
            # Where no run is open it would find nothing, at the price of most of the simulation's time.
            if any(not run.is_closed for run in self.table.runs.values()) or any(self.table.money.unsettled()):
                self.scheduler.start(name, run)
            self._every(name, period_seconds, limit_seconds, body)

        self.scheduler.after(period_seconds, start, background=True)

    def _is_settled(self) -> bool:
        is_over = all(run.is_closed or run.needs_person for run in self.table.runs.values())
        return is_over and not any(self.table.money.unsettled())

    def _turn(self, *, is_off: bool) -> None:
        def body(bound: Bound) -> None:
            bound.programs.kill_switch.turn(is_off=is_off, reason="test", ports=bound.ports)

        self._command(f"switch {'off' if is_off else 'on'}", body)

    def _job_created(self, job: BatchJob) -> None:
        twins = sum(other.name == job.name for other in self.batch.jobs.values())
        self.invariants.job_created(job.name, is_on_demand=job.is_on_demand, num_jobs=twins)
        if job.is_on_demand:
            self._regret(job)

    def _regret(self, job: BatchJob) -> None:
        """Let the user think again at the moment at which money begins to be spent."""
        wish = self._choices.draw(f"{job.job_id}: regret", self._swarm.regret)
        if wish is not None:
            operator = self._operator_of(job)
            after_seconds = self._choices.among(f"{job.job_id}: regret after", (0.2, 3.0, 40.0))
            self.scheduler.after(after_seconds, operator.cancel if wish == "cancel" else operator.pause)

    def _operator_of(self, job: BatchJob) -> Operator:
        return next(one for one in self._operators if job.name.startswith(f"{one.run.run_id}-"))

    # What Batch and EC2 do

    def _start_container(self, batch: Batch, job: BatchJob, number: int) -> Container:
        return Container(
            batch,
            job,
            number,
            kind=self._operator_of(job).program,
            scheduler=self.scheduler,
            choices=self._choices,
            swarm=self._swarm,
            programs=self._programs,
            table=self.table,
            store=self._store,
            invariants=self.invariants,
            trace=self._trace,
        )

    def _job_changed(self, job: BatchJob) -> None:
        if job.has_ended and not job.attempts and self._choices.draw(f"{job.job_id}: switch", self._swarm.switch):
            # Just while a handler that was told of the shortage weighs on-demand.
            off_seconds = self._choices.among(f"{job.job_id}: switch off after", (1.3, 1.4, 1.5, 1.6, 1.7))
            self.scheduler.after(off_seconds, partial(self._turn, is_off=True))
            self.scheduler.after(off_seconds + 900.0, partial(self._turn, is_off=False))
        self._delivery.emit(f"{job.job_id} {job.status} {len(job.attempts)}", JOB_CHANGED, job.job_id)

    def _host_noticed(self, job: BatchJob, host: str) -> None:
        self._warned.add(host)
        self._delivery.emit(f"notice for {job.job_id}#{len(job.attempts)}", HOST_NOTICED, host)

    def _trace(self, who: str, what: str) -> None:
        if self._lines is not None:
            minutes, seconds = divmod(self.scheduler.now_seconds, 60)
            self._lines.append(f"{int(minutes):5d}:{seconds:05.2f}  {who:<28}  {what}")
