"""People: each has a run submitted, asks again when the command failed, may pause, resume and cancel it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.training import is_queue
from spotkeeper.control.ports import UnknownRun
from spotkeeper.control.run import Run
from spotkeeper.policy.money import MICROUSD_PER_USD as USD
from spotkeeper.policy.placement import Mode
from tests.simulation import training
from tests.simulation.attempt import STEPS, TRAINING_SECONDS
from tests.simulation.batch import SPOT_QUEUE
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import LedgerTable
from tests.simulation.faults import Swarm
from tests.simulation.programs import Bound
from tests.simulation.sched import Scheduler

ATTEMPT_SECONDS: Final = 3 * 3600
AGAIN_SECONDS: Final = (5.0, 1.0, 60.0, 1200.0)
CANCEL_AFTER_SECONDS: Final = (900.0, 0.2, 2.0, 30.0, 120.0, 2500.0)
RESUME_AFTER_SECONDS: Final = (1800.0, 0.1, 5.0, 40.0, 400.0, 9000.0)

CAP_AFTER_SECONDS: Final = (2000.0, 100.0, 900.0, 7000.0)
GENEROUS_USD: Final = 500
HASTY: Final = 7000
"""A priority above the usual one."""

Command = Callable[[str, Callable[[Bound], None], float], None]
"""Runs a command under a name, on a machine whose clock is wrong by some seconds."""


def wanted(name: str, run_id: str, scheduler: Scheduler, choices: Choices) -> tuple[Run, float]:
    """Return a run as its user wants it, and how wrong the user's clock is; `name` is theirs in decisions."""
    skew_seconds = choices.among(f"{name}: clock of the user", (0.0, -300.0, 300.0))
    run = Run(
        run_id=run_id,
        created_at=iso(scheduler.now_seconds + skew_seconds),
        environment="dev",
        team="research",
        profile="cpu",
        market="spot",
        job_queue=SPOT_QUEUE,
        job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        command=("python", "train.py"),
        variables={},
        attempt_seconds=choices.among(f"{name}: attempt limit", (*[ATTEMPT_SECONDS] * 9, 1000)),
        mode=choices.among(f"{name}: mode", (Mode.BUDGET_FIRST, Mode.BUDGET_FIRST, Mode.DEADLINE_FIRST)).value,
        fallback_cap_microusd=choices.among(f"{name}: cap in dollars", (0, 60, 60, 60, 4, 2)) * USD,
        total_cap_microusd=choices.among(f"{name}: total cap", (None, None, None, 60 * USD, 5 * USD)),
    )
    return run, skew_seconds


def as_shaped(run: Run, choices: Choices) -> Run:
    """Let some runs be on SageMaker, of one machine or two, and some have a deadline, far or near."""
    name = run.run_id
    num_nodes = choices.shape(f"{name}: nodes on SageMaker", (0, 0, 0, 0, 1, 2))
    if num_nodes:
        run = replace(
            run,
            profile=training.PROFILE,
            job_queue=training.SPOT_QUEUE,
            job_definition=training.IMAGE,
            num_nodes=num_nodes,
        )
    deadline_hours = choices.shape(f"{name}: deadline", (None, None, None, None, None, 1, 3, 24))
    if deadline_hours is not None:
        deadline = datetime.fromisoformat(run.created_at) + timedelta(hours=deadline_hours)
        run = replace(
            run,
            deadline_at=deadline.isoformat(timespec="milliseconds"),
            work_seconds=round(TRAINING_SECONDS),
            num_steps=STEPS,
        )
    return run


class Operator:
    """Who wants one run."""

    def __init__(
        self,
        run: Run,
        *,
        skew_seconds: float,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        table: LedgerTable,
        command: Command,
    ) -> None:
        self.run = run
        self._scheduler, self._choices, self._table = scheduler, choices, table
        self._command = command
        self._wants_cancel = False
        self.skew_seconds = skew_seconds
        """How wrong the user's clock is."""
        run_id = run.run_id
        self.program = choices.draw(f"{run_id}: program", swarm.failure)
        """What is out of the ordinary with the user's program, if anything is."""
        self.begin()
        if choices.draw(f"{run_id}: wish", swarm.cancel) is not None:
            after = choices.among(f"{run_id}: cancelled after", CANCEL_AFTER_SECONDS)
            scheduler.after(after, self.cancel)
        cap_usd = choices.draw(f"{run_id}: new cap", swarm.cap)
        if cap_usd is not None:
            after = choices.among(f"{run_id}: new cap after", CAP_AFTER_SECONDS)
            scheduler.after(after, lambda: self.set_cap(cap_usd))
        if choices.draw(f"{run_id}: haste", swarm.priority) is not None:
            scheduler.after(choices.among(f"{run_id}: hastens after", CANCEL_AFTER_SECONDS), self.hasten)
        if choices.draw(f"{run_id}: rest", swarm.pause) is not None:
            after = choices.among(f"{run_id}: paused after", CANCEL_AFTER_SECONDS)
            scheduler.after(after, self.pause)
            scheduler.after(after + choices.among(f"{run_id}: resumed after", RESUME_AFTER_SECONDS), self.resume)

    def begin(self) -> None:
        """Ask for the run for the first time."""
        self.submit()

    def submit(self) -> None:
        """Submit the run, or go on with a submission that was cut off."""
        run_id = self.run.run_id

        def body(bound: Bound) -> None:
            if run_id in self._table.runs:
                bound.programs.submit.finish(run_id, **bound.world)
            else:
                bound.programs.submit.submit(self.run, **bound.world)

        if self._choices.among(f"{run_id}: asks again", (True, False)):
            self._scheduler.after(self._choices.among(f"{run_id}: asks again after", AGAIN_SECONDS), self.ask_again)
        self._command(f"submit {run_id}", body, self.skew_seconds)

    def ask_again(self) -> None:
        """Finish a submission that did not come to an end."""
        run = self._table.runs.get(self.run.run_id)
        if run is None or run.state is RunState.SUBMITTING:
            self.submit()

    def cancel(self) -> None:
        """Cancel the run."""
        self._wants_cancel = True

        def body(bound: Bound) -> None:
            try:
                bound.programs.cancel.cancel(self.run.run_id, **bound.world)
                self._wants_cancel = False
            except UnknownRun:
                self._wants_cancel = False

        self._command(f"cancel {self.run.run_id}", body, self.skew_seconds)

    def pause(self) -> None:
        """Pause the run."""

        def body(bound: Bound) -> None:
            with suppress(UnknownRun):
                bound.programs.pause.pause(self.run.run_id, **bound.world)

        self._command(f"pause {self.run.run_id}", body, self.skew_seconds)

    def hasten(self) -> None:
        """Let the run go before others; on SageMaker, where it cannot, that is refused."""
        refused = (ValueError,) if is_queue(self.run.job_queue) else ()

        def body(bound: Bound) -> None:
            with suppress(UnknownRun, *refused):
                bound.programs.priority.prioritize(self.run.run_id, HASTY, ports=bound.ports)

        self._command(f"hasten {self.run.run_id}", body, self.skew_seconds)

    def resume(self) -> None:
        """Let the run go on."""

        def body(bound: Bound) -> None:
            with suppress(UnknownRun):
                bound.programs.pause.resume(self.run.run_id, **bound.world)

        self._command(f"resume {self.run.run_id}", body, self.skew_seconds)

    def set_cap(self, usd: int, *, total: bool = True) -> None:
        """Set the caps of the run to so many dollars; the total only where it has one."""

        def body(bound: Bound) -> None:
            holder = run_holder(self.run.run_id)
            budget = bound.ports.budgets.get(holder)
            if budget is not None:
                has_total = self.run.total_cap_microusd is not None and total
                limit = usd * USD if has_total else budget.total.limit
                bound.ports.budgets.set_limits(budget, fallback=usd * USD, total=limit)

        self._command(f"cap of {self.run.run_id} {usd}", body, self.skew_seconds)

    def insist(self) -> None:
        """Say again what the ledger does not know, and let go on what rests: faults have ceased."""
        run = self._table.runs.get(self.run.run_id)
        self.set_cap(GENEROUS_USD)
        if run is None:
            self.submit()
        elif run.needs_person or run.pause_requested_at is not None:
            self.resume()
        if self._wants_cancel:
            self.cancel()
