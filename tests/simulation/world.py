"""The whole world of one simulation, in two phases: safety under faults, then healing, after which all must settle."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from spotkeeper.contract.budgets import kind_of, start_of
from spotkeeper.contract.events import HOST_LOST_STATUS_REASON
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name, member_id, parse_array_job_name
from spotkeeper.control.budget import UNLIMITED_MICROUSD
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON, WAITED_REASON, Cause, instance_of
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import JobStatus, Ports
from spotkeeper.control.reconcile import GIVE_UP_SECONDS
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.placement import HOST_SECONDS, Mode, longest_wait_seconds
from spotkeeper.policy.reservation import HANG_SECONDS, LISTED_SECONDS, UNSEEN_SECONDS
from tests.simulation.attempt import PARAMETER, TRAINING_SECONDS, Container
from tests.simulation.batch import CAPACITY_CANCEL, LISTED_AFTER_SECONDS, Batch, BatchJob, Hooks
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.closed_container import ClosedContainer
from tests.simulation.delivery import Delivery, Message
from tests.simulation.environment import ON_DEMAND_USD_PER_HOUR, TEARDOWN_SECONDS, terms_with
from tests.simulation.fakes import Link, LinkedBatch, LinkedBudgets, LinkedCheckpoints, LinkedLedger, ObjectStore
from tests.simulation.faults import Swarm
from tests.simulation.invariants import Invariants, require
from tests.simulation.mirror import LinkedS3, Mirrors
from tests.simulation.mirrored_folder import MirroredFolder
from tests.simulation.older_release import OlderBudgets, OlderLedger
from tests.simulation.operators import GENEROUS_USD, Operator, as_shaped, wanted
from tests.simulation.others import (
    ASKING,
    COPY,
    NAMESAKE,
    PARAMETER_OF_OTHERS,
    STRANGER,
    WITHOUT_RUN,
    Asking,
    StrangersContainer,
    job_of_others,
    knows_no_run,
)
from tests.simulation.others_table import LinkedOthers, OthersTable
from tests.simulation.programs import HANDLERS, HOST_NOTICED, JOB_CHANGED, PASSING, PERIODIC, Bound, Programs
from tests.simulation.sched import Program, Scheduler
from tests.simulation.sweep_operator import SweepOperator
from tests.simulation.sweep_table import LinkedSweeps, SweepTable
from tests.simulation.training import CAPACITY_ERROR, MAX_WAIT, PROFILE, STARTING_SECONDS, Training, TrainingJob

FAULTY_SECONDS: Final = (86400.0, 3600.0, 10800.0)
SETTLED_SECONDS: Final = 2 * 86400.0
INSISTING: Final = 3
LOOKED_BEFORE_SECONDS: Final = 300.0
"""How long before it writes a program may have looked: longer than any of them lives."""
TIGHT_USD: Final = 6
"""A total cap of a month that runs meet."""
OTHERS_AFTER_SECONDS: Final = (0.0, 600.0, 3000.0)
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
        self._fallback_cap = month_usd * MICROUSD_PER_USD
        num_runs = choices.among("runs", (1, 2, 3))
        is_sweep = choices.shape("a sweep", (False, False, True)) and num_runs > 1
        kinds = choices.shape("jobs of others", (*[()] * 8, (STRANGER,), (COPY,), (ASKING,), (STRANGER, ASKING)))
        self._total_usd: int | None = (
            choices.shape("total cap of a shared month", (None, None, 1000, TIGHT_USD))
            if is_sweep or kinds
            else choices.among("total cap of a month", (None, None, None, 60, 4))
        )
        self._is_deployed_slowly = choices.shape("functions of two releases", (*[False] * 7, True))
        sweep_usd = choices.among("total cap of a sweep", (None, None, None, 20, 4))
        self._store = ObjectStore(self.invariants)
        self._mirrors = Mirrors(self.invariants)
        hooks = Hooks(
            start_container=self._start_container,
            job_created=self._job_created,
            job_changed=self._job_changed,
            host_noticed=self._host_noticed,
            job_withdrawn=self._job_withdrawn,
        )
        self.batch = Batch(self.scheduler, choices, swarm, self._trace, hooks)
        self._training = Training(
            self.batch.jobs,
            self.batch.refused_names,
            scheduler=self.scheduler,
            choices=choices,
            swarm=swarm,
            trace=self._trace,
            hooks=hooks,
            job_of=programs.training_jobs.job_of,
        )
        self._delivery = Delivery(self.scheduler, choices, swarm, self._trace, self._handle)
        self._sweeps = SweepTable(self.table, self.invariants)
        self._others = OthersTable()
        self._others_run_ids: dict[str, str] = {}
        """By kind of job of others: what would be its run."""
        tended: dict[str, Any] = {
            "scheduler": self.scheduler,
            "choices": choices,
            "swarm": swarm,
            "table": self.table,
            "command": self._command,
        }
        self._sweep: SweepOperator | None = None
        self._operators: list[Operator] = []
        if is_sweep:
            self._sweep = SweepOperator(
                num_runs,
                scheduler=self.scheduler,
                choices=choices,
                table=self.table,
                command=self._command,
                member=tended,
            )
            self._operators += self._sweep.members
        else:
            for number in range(1, num_runs + 1):
                run, skew_seconds = wanted(f"r{number}", f"r{number}", self.scheduler, choices)
                run = as_shaped(run, choices)
                if sweep_usd is not None:
                    # Whoever comes first names the cap.
                    cap = sweep_usd * MICROUSD_PER_USD if number == 1 else None
                    run = replace(run, sweep="lr", sweep_total_cap_microusd=cap)
                self._operators.append(Operator(run, skew_seconds=skew_seconds, **tended))
        for kind in kinds:
            self._add_others(kind, kind, tended)
        if not is_sweep and choices.shape("a job of the name of a run's first", (*[False] * 7, True)):
            self._add_others(NAMESAKE, "r1", tended)
        if choices.draw("somebody turns the switch", swarm.switch) is not None:
            period_seconds = choices.among("turned every", (1800.0, 97.0, 431.0, 7000.0))
            for number in range(choices.among("turned so often", (2, 8, 24))):
                self.scheduler.after(period_seconds * (number + 1), partial(self._turn, is_off=number % 2 == 0))
        self._is_training_unread_longer = choices.shape("SageMaker describes nothing until later", (*[False] * 3, True))
        self._is_isolated = self._isolates_training()
        self._terms = self._terms_with(self._total_usd)
        for name, (period_seconds, limit_seconds, body) in PERIODIC.items():
            self._every(name, period_seconds, limit_seconds, body)

    def _isolates_training(self) -> bool:
        """Settle whether training jobs reach no network, and have those of runs that are wanted be so."""
        is_isolated: bool = self._choices.shape("training jobs reach no network", (False, False, True))
        for operator in self._operators:
            if is_isolated and operator.run.profile == PROFILE:
                operator.run = replace(operator.run, is_isolated=True, num_nodes=1)
        return is_isolated

    def _terms_with(self, total_usd: int | None) -> EnvironmentTerms:
        total = None if total_usd is None else total_usd * MICROUSD_PER_USD
        return terms_with(self._fallback_cap, total, is_isolated=self._is_isolated)

    def _add_others(self, kind: str, run_id: str, tended: dict[str, Any]) -> None:
        """Let somebody else submit a job of a kind, whose name is that of a run's first, to the same service."""
        after_seconds = self._choices.among(f"{kind}: submitted after", OTHERS_AFTER_SECONDS)
        if kind == NAMESAKE and self._operator(run_id).run.profile == PROFILE:
            self.scheduler.after(after_seconds, lambda: self._training.give_away(job_name(run_id, 1)))
            return
        run, _ = wanted(kind, run_id, self.scheduler, self._choices)
        run = replace(run, variables={PARAMETER: PARAMETER_OF_OTHERS})
        self._others_run_ids[kind] = run.run_id
        self.scheduler.after(after_seconds, lambda: self._submit_past_us(kind, run))
        if kind == ASKING:
            self._operators.append(Asking(run, skew_seconds=0.0, **tended))

    def _submit_past_us(self, kind: str, run: Run) -> None:
        self.batch.submit(job_of_others(kind, run))

    def live(self) -> None:
        """Run both phases.

        Raises:
            Violation: an invariant does not hold.
        """
        self.scheduler.run(until_seconds=self._choices.among("heals after", FAULTY_SECONDS))
        self._trace("world", "heals: no faults from here on")
        self._healed_seconds = self._described_seconds = self.scheduler.now_seconds
        self._choices.calm()
        self._delivery.cease()
        self._training.raise_quotas()
        if self._terms.limits.total_microusd is not None:  # a new month begins with more
            self._terms = self._terms_with(GENEROUS_USD)
        if self._is_training_unread_longer and self._has_both_services():
            self._training.is_unread = True
            self._settle()
            self._trace("world", "SageMaker describes its jobs again")
            on_batch = (run for run in self.table.runs.values() if run.profile != PROFILE)
            self.invariants.check_settled(on_batch, unable=self._unable())
            self._training.is_unread = False
            self._described_seconds = self.scheduler.now_seconds
        self._settle()
        self._check_settled()
        self._check_jobs(job for job in self.batch.jobs.values() if job.is_on_demand or self._is_held(job))
        self._trace("world", "has settled without events; they come now")
        for _ in range(2):  # the first may be what settles a message or a command of before
            self._delivery.redrive()
            for job in self.batch.jobs.values():
                self._delivery.emit(f"{job.job_id} once more", JOB_CHANGED, job.job_id)
            self.scheduler.run(self.scheduler.now_seconds + SETTLED_SECONDS)
        self._check_settled()
        self._check_jobs(self.batch.jobs.values())
        self._check_messages()
        self._check_attempts()
        self._check_others()
        self.invariants.check_bills(self.table.money, self._bills())
        self.invariants.check_month(self.table.money, NEW_MONTH, self._leased_in_the_new_month())

    def _settle(self) -> None:
        """Let everybody go on, now that faults have ceased, until all is settled that can be."""
        for _ in range(INSISTING):  # what still came of faults may park a run once more
            self._turn(is_off=False)
            self._command("caps of all", _be_generous)
            self.scheduler.run(self.scheduler.now_seconds + GENEROUS_AFTER_SECONDS)
            if self._sweep is not None:
                self._sweep.insist()
            for operator in self._operators:
                operator.insist()
            self.scheduler.run(self.scheduler.now_seconds + SETTLED_SECONDS)

    def _has_both_services(self) -> bool:
        return len({operator.run.profile == PROFILE for operator in self._operators}) == len(("Batch", "SageMaker"))

    def digest(self) -> str:
        """Return a hash of everything that the world has come to."""
        state = (
            sorted(self.table.runs.items()),
            sorted(self.table.attempts.items()),
            sorted(self.table.interruptions.items()),
            sorted(self._sweeps.records.items()),
            sorted(self._others.jobs.items()),
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
        return self.batch.jobs[job_id].status_reason in (CAPACITY_CANCEL, WAITED_REASON, CAPACITY_ERROR, MAX_WAIT)

    def has_failed_by_itself(self, job_id: str) -> bool:
        """Tell whether the user's program has ended the job by a failure of its own, on SageMaker."""
        job = self.batch.jobs[job_id]
        return isinstance(job, TrainingJob) and job.has_failed_by_itself

    def lacked_quota(self, name: str) -> bool:
        """Tell whether SageMaker has rejected a submission of this name for the account's quota."""
        return name in self._training.names_without_quota

    def has_told(self, run_id: str, event_id: str) -> bool:
        """Tell whether the run's history has an event."""
        return any(key[0] == run_id and key[2] == event_id for key in self.table.events)

    def now(self) -> str:
        """Return the time, ISO 8601, UTC."""
        return iso(self.scheduler.now_seconds)

    def longest_wait_seconds(self, job_id: str) -> float:
        """Return how long placement lets the run of a job wait for a machine, whatever becomes of its deadline."""
        run = self.table.runs[_run_id_of(self.batch.jobs[job_id])]
        if run.deadline_at is not None:
            return 0.0
        return longest_wait_seconds(Mode(run.mode), self._terms.placement)

    def has_deadline(self, run_id: str) -> bool:
        """Tell whether the run may cross its own cap."""
        return self.table.runs[run_id].mode == Mode.DEADLINE_FIRST

    def has_job_of(self, run_id: str, submission: int) -> bool:
        """Tell whether a job that was submitted for this submission has not ended."""
        jobs = (job for job in self.batch.jobs.values() if job.array_size is None and not job.has_ended)
        return any(self.is_job_of(job.job_id, run_id, submission) for job in jobs)

    def is_mirrored(self, run_id: str) -> bool:
        """Tell whether a job of the run has not ended."""
        return any(_run_id_of(job) == run_id and not job.has_ended for job in self.batch.jobs.values())

    def is_wanted(self, run_id: str) -> bool:
        """Tell whether somebody has asked for the run."""
        return any(operator.run.run_id == run_id for operator in self._operators)

    def is_of_others(self, job_id: str) -> bool:
        """Tell whether the job is one that somebody else submitted, and no run's."""
        job = self.batch.jobs[job_id]
        is_no_run = _run_id_of(job) in self._others_run_ids.values() and _run_id_of(job) not in self.table.runs
        return is_no_run or knows_no_run(job)

    def is_job_of(self, job_id: str, run_id: str, submission: int) -> bool:
        """Tell whether the job was submitted for this submission of the run."""
        job = self.batch.jobs[job_id]
        if knows_no_run(job):
            return False
        if submission == 1 and self.table.runs[run_id].array_index is not None:
            return job.array_index is not None and _run_id_of(job) == run_id
        return job.array_index is None and job.name == job_name(run_id, submission)

    def shows_child_of(self, run_id: str) -> bool:
        """Tell whether a look-up has shown the member's child for a while."""
        since_seconds = self.scheduler.now_seconds - LISTED_AFTER_SECONDS - LOOKED_BEFORE_SECONDS
        children = (job for job in self.batch.jobs.values() if job.array_index is not None)
        return any(_run_id_of(job) == run_id and job.created_seconds < since_seconds for job in children)

    def waits_for_child(self, run_id: str) -> bool:
        """Tell whether the run is a member whose child is to be submitted."""
        run = self.table.runs[run_id]
        return run.is_array_child and run.state is RunState.SUBMITTING

    def is_about_to_go_on_alone(self, run_id: str) -> bool:
        """Tell whether a look-up may not show the member's child before the member gives it up."""
        now = iso(self.scheduler.now_seconds + self._operator(run_id).skew_seconds)
        return seconds_between(self.table.runs[run_id].created_at, now) > GIVE_UP_SECONDS - LOOKED_BEFORE_SECONDS

    def leases_spot(self, run_id: str) -> bool:
        """Tell whether what the run spends on spot is capped."""
        return self._total_usd is not None or self.invariants.was_capped_at_birth(run_id)

    def parameter_of(self, run_id: str) -> str | None:
        """Return what the user gave this run alone."""
        return self._operator(run_id).run.variables.get(PARAMETER)

    def is_refused(self, name: str) -> bool:
        """Tell whether Batch has rejected a submission of this name."""
        return name in self.batch.refused_names

    def _check_settled(self) -> None:
        self.invariants.check_settled(self.table.runs.values(), unable=self._unable())

    def _check_jobs(self, jobs: Iterable[BatchJob]) -> None:
        for job in jobs:
            require(job.has_ended, "I1 no job is lost", f"{job.job_id} is {job.status} for ever")

    def _is_held(self, job: BatchJob) -> bool:
        """Tell whether the job is not a twin on spot that hangs, of which only an event tells, nor the array of one."""
        if job.array_size is not None:
            return all(child.has_ended or self._is_held(child) for child in self.batch.children(job))
        return job.status is not JobStatus.STARTING or any(run.job_id == job.job_id for run in self.table.runs.values())

    def _check_others(self) -> None:
        """In the end others' jobs are recorded, and those that asked for it are runs, paid for where spot is capped."""
        for kind, run_id in self._others_run_ids.items():
            named = (job for job in self.batch.jobs.values() if job.name == job_name(run_id, 1))
            job = next(job for job in named if knows_no_run(job) == (kind in WITHOUT_RUN))
            if kind != ASKING:
                known = self._others.jobs.get(job.job_id)
                is_known = known is not None and known.status == job.status
                require(is_known, "I8 nothing silent", f"{job.job_id} of others is {job.status}, recorded {known}")
                continue
            require(self.has_run(run_id), "I1 no run is lost", f"{job.job_id} asks to be a run")
            is_leased = not self.leases_spot(run_id) or (run_id, 1) in self.table.money.reserved
            # Where little is left, the job may have been stopped, or have ended before anybody knew of it.
            is_stopped = job.status_reason in (OVER_BUDGET_REASON, OVER_MONTH_REASON)
            is_free = not job.attempts or self._total_usd == TIGHT_USD or is_stopped
            require(is_leased or is_free, "I3 reserved before it can be spent", f"{job.job_id} has no lease")

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
        """Return what AWS bills, in micro-dollars, for the on-demand jobs of each submission."""
        named: dict[str, list[BatchJob]] = {}
        for job in self.batch.jobs.values():
            if job.is_on_demand:
                named.setdefault(job.name, []).append(job)
        bills: dict[tuple[str, int], int] = {}
        for name, jobs in named.items():
            run_id, _, submission = name.rpartition("-")
            longest = max(jobs, key=BatchJob.hung_seconds)
            bills[run_id, int(submission)] = sum(self._bill(job, is_twin=job is not longest) for job in jobs)
        return bills

    def _bill(self, job: BatchJob, *, is_twin: bool) -> int:
        unseen_seconds = self._unseen_seconds(job, is_twin=is_twin)
        if isinstance(job, TrainingJob):
            price = self._terms.profiles[PROFILE].usd_per_hour[job.type]
            return cost_microusd(price * job.num_nodes, job.billed_seconds())
        used = sum((host.released_seconds or 0.0) - host.launched_seconds for host in job.hosts)
        seconds = used - unseen_seconds + TEARDOWN_SECONDS * len(job.hosts)
        return cost_microusd(ON_DEMAND_USD_PER_HOUR, seconds)

    def _unseen_seconds(self, job: BatchJob, *, is_twin: bool) -> float:
        """Return for how long the job's host hung because no sweep came through to it; no reservation covers that.

        Only faults keep the sweeper away for so long, and when they cease it has what hangs stopped in time.
        """
        if not job.hung_seconds():
            return 0.0
        host = job.hosts[-1]
        assert host.starting_seconds is not None
        assert host.released_seconds is not None
        # What SageMaker does not describe, nobody may stop.
        seen_seconds = self._described_seconds if isinstance(job, TrainingJob) else self._healed_seconds
        stopped_by = max(seen_seconds, host.starting_seconds) + HANG_SECONDS
        is_stopped = host.released_seconds <= stopped_by
        require(is_stopped, "I3 no start without end", f"{job.job_id} hung until {host.released_seconds:.0f}")
        covered = host.starting_seconds + HANG_SECONDS
        if is_twin:
            covered = min(covered, job.created_seconds + LISTED_SECONDS + UNSEEN_SECONDS)
        return max(0.0, host.released_seconds - covered)

    def _leased_in_the_new_month(self) -> int:
        """Return what containers on spot used of the new month, in micro-dollars, where spot is leased."""
        used = 0
        for job in self.batch.jobs.values():
            if job.is_on_demand or job.array_size is not None or knows_no_run(job):
                continue
            if isinstance(job, TrainingJob):
                continue  # SageMaker tells what it bills once a job has ended, and not of which month it was
            submission = 1 if job.array_index is not None else int(job.name.rpartition("-")[2])
            if (_run_id_of(job), submission) not in self.table.money.reserved:
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
        # Users' programs are not deployed with the functions, which alone have a time limit.
        is_older = self._is_deployed_slowly and deadline_seconds is not None
        is_older = is_older and self._choices.among(f"{name}: is of the release before", (False, True))
        ports = Ports(
            ledger=(OlderLedger if is_older else LinkedLedger)(self.table, link),
            budgets=(OlderBudgets if is_older else LinkedBudgets)(self.table, link),
            batch=self._programs.job_services.JobServices(
                batch=LinkedBatch(self.batch, link, self.invariants),
                sagemaker=lambda: LinkedBatch(self._training, link, self.invariants),
            ),
            checkpoints=LinkedCheckpoints(self._store, link),
            mirrors=self._programs.mirrors.S3Mirrors(
                LinkedS3(self._mirrors, link, self.invariants), "s3://checkpoints"
            ),
            terms=self._terms,
            # Who has no jobs of others has no list of them either: reading it takes time, and chances from the seed.
            others=LinkedOthers(self._others, link) if self._others_run_ids else None,
        )
        return Bound(
            programs=self._programs,
            ports=ports,
            sweeps=LinkedSweeps(self._sweeps, link),
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
        if self._training.is_unread:
            return all(run.is_closed or run.needs_person or run.profile == PROFILE for run in self.table.runs.values())
        is_over = all(run.is_closed or run.needs_person for run in self.table.runs.values())
        return is_over and not any(self.table.money.unsettled())

    def _turn(self, *, is_off: bool) -> None:
        def body(bound: Bound) -> None:
            bound.programs.kill_switch.turn(is_off=is_off, reason="test", ports=bound.ports)

        self._command(f"switch {'off' if is_off else 'on'}", body)

    def _job_withdrawn(self, job: BatchJob) -> None:
        if job.stop_reason != WAITED_REASON:
            return
        if job.is_on_demand:
            age_seconds = self.scheduler.now_seconds - job.created_seconds
            has_waited = age_seconds >= HOST_SECONDS / 2  # whose clock is fast counts more
            require(has_waited, "on-demand has its time", f"{job.name} is withdrawn after {age_seconds:.0f} s")
        if not isinstance(job, TrainingJob):
            self.invariants.job_withdrawn(job.job_id, job.queue)
            return
        # On SageMaker there is no queue: what waits there waits for its own machines, each type for its time.
        run = self.table.runs[_run_id_of(job)]
        is_pressed = run.deadline_at is not None or run.mode == Mode.DEADLINE_FIRST
        waited_seconds = job.longest_wait_seconds(self.scheduler.now_seconds, seen_after_seconds=LOOKED_BEFORE_SECONDS)
        is_over = is_pressed or waited_seconds >= STARTING_SECONDS
        require(is_over, "each type has its time", f"{job.name} is withdrawn after {waited_seconds:.0f} s")

    def _job_created(self, job: BatchJob) -> None:
        if knows_no_run(job) or (_run_id_of(job) in (COPY, ASKING) and job.name.endswith("-1")):
            return
        if job.array_size is not None:
            self.invariants.array_created(job.name, job.array_size)
            return
        twins = len(self.batch.listed(job.name))
        self.invariants.job_created(job.name, is_on_demand=job.is_on_demand, num_jobs=twins)
        if job.is_on_demand:
            self._regret(job)

    def _regret(self, job: BatchJob) -> None:
        """Let the user think again at the moment at which money begins to be spent."""
        wish = self._choices.draw(f"{job.job_id}: regret", self._swarm.regret)
        if wish is not None:
            operator = self._operator(_run_id_of(job))
            after_seconds = self._choices.among(f"{job.job_id}: regret after", (0.2, 3.0, 40.0))
            self.scheduler.after(after_seconds, operator.cancel if wish == "cancel" else operator.pause)

    def _operator(self, run_id: str) -> Operator:
        return next(one for one in self._operators if one.run.run_id == run_id)

    # What Batch and EC2 do

    def _start_container(self, batch: Any, job: BatchJob, number: int) -> Container | StrangersContainer:
        run_id = _run_id_of(job)
        if knows_no_run(job):
            return StrangersContainer(batch, job, number, scheduler=self.scheduler, trace=self._trace)
        world: dict[str, Any] = {
            "scheduler": self.scheduler,
            "choices": self._choices,
            "swarm": self._swarm,
            "trace": self._trace,
        }
        taken: dict[str, Any] = {
            "kind": self._operator(run_id).program if self.is_wanted(run_id) else None,
            "programs": self._programs,
            "table": self.table,
            "store": self._store,
            "invariants": self.invariants,
            **world,
        }
        if not job.request.get("EnableNetworkIsolation"):
            return Container(batch, job, number, **taken)
        folder = MirroredFolder(self._mirrors, run_id, name=f"{job.label}#{number}", **world)
        return ClosedContainer(batch, job, number, folder=folder, **taken)

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


def _run_id_of(job: BatchJob) -> str:
    """Return the run that the job's name and index stand for; of an array none."""
    if job.array_index is None:
        return job.name.rpartition("-")[0]
    sweep = parse_array_job_name(job.name)
    assert sweep is not None
    return member_id(sweep, job.array_index)
