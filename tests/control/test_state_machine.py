"""Any order of what people, Batch, EC2 and the sweeper do to one run: a second engine beside the simulation.

The simulation explores time and faults; this one explores orders of whole steps, and shrinks to a short script.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import kill_switch
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.ports import Job, JobAttempt, JobStatus
from spotkeeper.control.run import Run
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.placement import Market
from tests.control.fakes import ON_DEMAND_QUEUE, MemoryBatch, new_run
from tests.control.reconciled import CAPACITY, HOST, NORMAL, RUN, World, after

USD = MICROUSD_PER_USD
ENDINGS: tuple[tuple[int | None, str], ...] = (
    *[(None, HOST), (75, NORMAL)] * 6,
    (143, NORMAL),
    (1, NORMAL),
    (0, NORMAL),
)
"""What ends a run for good is rare, so that there is something left to go wrong."""
RARELY = st.integers(0, 11).map(lambda drawn: drawn == 11)


class StoppingBatch(MemoryBatch):
    """Ends a job when it is told to, as Batch does."""

    queues: dict[str, str]

    def submit(self, request: Any) -> str:
        job_id = super().submit(request)
        self.queues[job_id] = request["jobQueue"]
        return job_id

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        return tuple(job for job in super().find(name, queue=queue) if self.queues[job.job_id] == queue)

    def terminate(self, job_id: str, reason: str) -> None:
        super().terminate(job_id, reason)
        self.end(job_id, exit_code=75, reason=NORMAL, job_reason=reason)

    def withdraw(self, job_id: str, reason: str) -> None:
        super().withdraw(job_id, reason)
        if self.jobs[job_id].status is JobStatus.SUBMITTED:
            self.end(job_id, exit_code=None, reason=None, job_reason=reason)

    def end(self, job_id: str, *, exit_code: int | None, reason: str | None, job_reason: str | None = None) -> None:
        job = self.jobs[job_id]
        if job.has_ended:
            return
        attempts = tuple(
            replace(attempt, stopped_at=self.now, exit_code=exit_code, status_reason=reason) for attempt in job.attempts
        )
        status = JobStatus.SUCCEEDED if exit_code == 0 and job_reason is None else JobStatus.FAILED
        self.jobs[job_id] = replace(
            job, status=status, attempts=attempts, status_reason=job_reason or reason, stopped_at=self.now
        )

    now: str = after(0)


class OneRun(RuleBasedStateMachine):
    """One run with a cap for on-demand, and everything that may happen to it, in whole steps."""

    @initialize(cap_usd=st.sampled_from([40, 40, 3, 0]))
    def submit(self, cap_usd: int) -> None:
        self.batch = StoppingBatch()
        self.batch.queues = {}
        self.world = World(batch=self.batch)
        self.minute = 0.0
        self.highest = (0, 0)
        self.ended: Run | None = None
        self.world.submit(new_run(fallback_cap_microusd=cap_usd * USD))

    @property
    def run_now(self) -> Run:
        return self.world.run

    def live_jobs(self) -> list[str]:
        return sorted(job_id for job_id, job in self.batch.jobs.items() if not job.has_ended)

    # The world

    @rule(minutes=st.sampled_from([1, 6, 20, 45, 400]))
    def time_passes(self, minutes: int) -> None:
        self.minute += minutes
        self.batch.now = after(self.minute)

    @precondition(lambda self: self.live_jobs())
    @rule(data=st.data())
    def a_job_gets_a_machine_and_claims(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.live_jobs()))
        job = self.batch.jobs[job_id]
        if job.status is not JobStatus.SUBMITTED:
            return
        attempt = JobAttempt(started_at=after(self.minute))
        self.batch.jobs[job_id] = replace(job, status=JobStatus.RUNNING, attempts=(*job.attempts, attempt))
        run = self.run_now
        submission = int(job.name.rpartition("-")[2])
        may_claim = (
            run.is_live
            and run.submission == submission
            and run.job_id in (None, job_id)
            and run.cancel_requested_at is None
            and run.pause_requested_at is None
            and run.completion is None
        )
        if may_claim:
            others = [other for other in self.live_jobs() if other != job_id and self.holds(other)]
            assert not others, f"{job_id} claims while {others} hold the run"
            self.world.ledger.claim(RUN, job_id, len(self.batch.jobs[job_id].attempts))
            self.world.ledger.runs[RUN] = replace(self.run_now, claimed_at=after(self.minute))

    def holds(self, job_id: str) -> bool:
        run = self.run_now
        return run.claimed_job_id == job_id and not self.batch.jobs[job_id].has_ended

    @precondition(lambda self: self.live_jobs())
    @rule(data=st.data())
    def the_sweeper_sees_what_became_of_a_job_without_a_machine(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.live_jobs()))
        if self.batch.jobs[job_id].attempts:
            return
        self.time_passes(45)
        self.batch.end(job_id, exit_code=None, reason=None, job_reason=CAPACITY)
        self.world.sweep(minute=self.minute)

    @precondition(lambda self: self.live_jobs())
    @rule(data=st.data(), ending=st.sampled_from(ENDINGS))
    def a_job_ends(self, data: st.DataObject, ending: tuple[int | None, str]) -> None:
        job_id = data.draw(st.sampled_from(self.live_jobs()))
        if self.batch.jobs[job_id].attempts:
            self.batch.end(job_id, exit_code=ending[0], reason=ending[1])
        else:
            self.batch.end(job_id, exit_code=None, reason=None, job_reason=CAPACITY)

    @rule()
    def a_checkpoint_is_committed(self) -> None:
        if self.run_now.state is RunState.RUNNING:
            steps = self.world.checkpoints.steps
            steps[RUN] = steps.get(RUN, 0) + 1

    @rule(really=RARELY)
    def the_program_completes(self, really: bool) -> None:
        run = self.run_now
        if (
            really
            and run.state is RunState.RUNNING
            and run.claimed_job_id is not None
            and self.holds(run.claimed_job_id)
        ):
            self.world.ledger.complete(RUN, run.epoch)
            self.batch.end(run.claimed_job_id, exit_code=0, reason=NORMAL)

    # The control plane

    @rule(data=st.data())
    def an_event_arrives_however_late(self, data: st.DataObject) -> None:
        self.world.hear(data.draw(st.sampled_from(sorted(self.batch.jobs))), minute=self.minute)

    @rule()
    def the_sweeper_comes(self) -> None:
        self.world.sweep(minute=self.minute)

    # People

    @rule(really=RARELY)
    def somebody_cancels(self, really: bool) -> None:
        if really:
            cancel(RUN, ports=self.world.ports, now=after(self.minute))

    @rule(really=RARELY)
    def somebody_pauses(self, really: bool) -> None:
        if really:
            pause(RUN, ports=self.world.ports, now=after(self.minute))

    @rule()
    def somebody_resumes(self) -> None:
        resume(RUN, ports=self.world.ports, now=after(self.minute))

    @rule(is_off=st.booleans())
    def somebody_turns_the_switch(self, is_off: bool) -> None:
        kill_switch.turn(is_off=is_off, reason="test", ports=self.world.ports)

    @rule(data=st.data(), fallback=st.integers(0, 40), total=st.integers(10, 80))
    def somebody_sets_a_cap(self, data: st.DataObject, fallback: int, total: int) -> None:
        holders = sorted(self.world.budgets.budgets)
        if holders:
            budget = self.world.budgets.budgets[data.draw(st.sampled_from(holders))]
            self.world.budgets.set_limits(budget, fallback=fallback * USD, total=total * USD)

    # What always holds

    @invariant()
    def caps_add_up(self) -> None:
        open_ones = [item for item in self.world.budgets.reserved.values() if item.settled_at is None]
        settled = [item for item in self.world.budgets.reserved.values() if item.settled_at is not None]
        for holder, budget in self.world.budgets.budgets.items():
            for cap in (budget.fallback, budget.total):
                assert cap.limit == cap.available + cap.reserved + cap.spent
            assert budget.total.reserved == sum(item.microusd for item in open_ones if holder in item.holders)
            assert budget.total.spent == sum(item.spent_microusd or 0 for item in settled if holder in item.holders)

    @invariant()
    def nothing_on_on_demand_is_unreserved(self) -> None:
        for job_id, queue in self.batch.queues.items():
            submission = int(self.batch.jobs[job_id].name.rpartition("-")[2])
            if queue == ON_DEMAND_QUEUE:
                reservation = self.world.budgets.reserved[RUN, submission]
                assert reservation.market is Market.ON_DEMAND
                assert reservation.settled_at is None or self.batch.jobs[job_id].has_ended

    @invariant()
    def no_number_is_given_twice_and_no_job_of_the_run_is_taken_for_a_twin(self) -> None:
        names = [job.name for job in self.batch.jobs.values()]
        assert len(names) == len(set(names)), "no reply is lost here, so there are no twins"
        assert TWIN_REASON not in {reason for _, reason in self.batch.terminated}

    @invariant()
    def nothing_is_spent_beyond_what_was_reserved(self) -> None:
        for item in self.world.budgets.reserved.values():
            if item.market is Market.ON_DEMAND and self.within_limit(item.submission):
                assert (item.spent_microusd or 0) <= item.microusd

    def within_limit(self, submission: int) -> bool:
        """Tell whether this world let the attempt run no longer than Batch would have."""
        limit = self.run_now.attempt_seconds
        attempts = [
            attempt
            for job in self.batch.jobs.values()
            if job.name == f"{RUN}-{submission}"
            for attempt in job.attempts
            if attempt.started_at and attempt.stopped_at
        ]
        lengths = [
            datetime.fromisoformat(attempt.stopped_at) - datetime.fromisoformat(attempt.started_at)
            for attempt in attempts
            if attempt.started_at and attempt.stopped_at
        ]
        return all(length.total_seconds() <= limit for length in lengths)

    @invariant()
    def a_run_moves_forward_and_an_ended_one_not_at_all(self) -> None:
        run = self.run_now
        position = (run.submission, run.epoch)
        assert position >= self.highest
        self.highest = position
        assert self.ended is None or self.ended.state is run.state
        if run.is_closed:
            self.ended = run
        if run.state is RunState.SUCCEEDED:
            assert run.is_complete


TestOneRun = OneRun.TestCase
TestOneRun.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
