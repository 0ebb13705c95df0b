"""People: each has a run submitted, asks again when the command failed, may pause, resume and cancel it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import UnknownRun
from spotkeeper.control.run import Run
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

Command = Callable[[str, Callable[[Bound], None], float], None]
"""Runs a command under a name, on a machine whose clock is wrong by some seconds."""


class Operator:
    """Who wants one run."""

    def __init__(
        self,
        run_id: str,
        *,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        table: LedgerTable,
        command: Command,
    ) -> None:
        self._scheduler, self._choices, self._table = scheduler, choices, table
        self._command = command
        self._wants_cancel = False
        self._skew_seconds = choices.among(f"{run_id}: clock of the user", (0.0, -300.0, 300.0))
        self.run = Run(
            run_id=run_id,
            created_at=iso(scheduler.now_seconds + self._skew_seconds),
            environment="dev",
            team="research",
            profile="cpu",
            market="spot",
            job_queue="arn:aws:batch:us-east-1:123456789012:job-queue/spot",
            job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
            command=("python", "train.py"),
            variables={},
            attempt_seconds=choices.among(f"{run_id}: attempt limit", (*[ATTEMPT_SECONDS] * 9, 1000)),
        )
        self.program = choices.draw(f"{run_id}: program", swarm.failure)
        """What is out of the ordinary with the user's program, if anything is."""
        self.submit()
        if choices.draw(f"{run_id}: wish", swarm.cancel) is not None:
            after = choices.among(f"{run_id}: cancelled after", CANCEL_AFTER_SECONDS)
            scheduler.after(after, self.cancel)
        if choices.draw(f"{run_id}: rest", swarm.pause) is not None:
            after = choices.among(f"{run_id}: paused after", CANCEL_AFTER_SECONDS)
            scheduler.after(after, self.pause)
            scheduler.after(after + choices.among(f"{run_id}: resumed after", RESUME_AFTER_SECONDS), self.resume)

    def submit(self) -> None:
        """Submit the run, or go on with a submission that was cut off."""
        run_id = self.run.run_id

        def body(bound: Bound) -> None:
            if run_id in self._table.runs:
                bound.programs.submit.finish(run_id, **bound.aws)
            else:
                bound.programs.submit.submit(self.run, **bound.aws)

        if self._choices.among(f"{run_id}: asks again", (True, False)):
            self._scheduler.after(self._choices.among(f"{run_id}: asks again after", AGAIN_SECONDS), self.ask_again)
        self._command(f"submit {run_id}", body, self._skew_seconds)

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
                bound.programs.cancel.cancel(self.run.run_id, **bound.aws)
                self._wants_cancel = False
            except UnknownRun:
                self._wants_cancel = False

        self._command(f"cancel {self.run.run_id}", body, self._skew_seconds)

    def pause(self) -> None:
        """Pause the run."""
        self._command(f"pause {self.run.run_id}", self._if_known("pause"), self._skew_seconds)

    def resume(self) -> None:
        """Let the run go on."""
        self._command(f"resume {self.run.run_id}", self._if_known("resume"), self._skew_seconds)

    def _if_known(self, verb: str) -> Callable[[Bound], None]:
        def body(bound: Bound) -> None:
            with suppress(UnknownRun):
                getattr(bound.programs.pause, verb)(self.run.run_id, **bound.aws)

        return body

    def insist(self) -> None:
        """Say again what the ledger does not know, and let go on what rests: faults have ceased."""
        run = self._table.runs.get(self.run.run_id)
        if run is None:
            self.submit()
        elif run.needs_person or run.pause_requested_at is not None:
            self.resume()
        if self._wants_cancel:
            self.cancel()
