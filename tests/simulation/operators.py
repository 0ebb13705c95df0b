"""People: each has a run submitted, asks again when the command failed, and may cancel."""

from collections.abc import Callable
from typing import Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import Conflict, Refused, ReplyLost, Throttled, UnknownRun
from spotkeeper.control.run import Run
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import LedgerTable
from tests.simulation.faults import Swarm
from tests.simulation.programs import Bound
from tests.simulation.sched import Scheduler

ATTEMPT_SECONDS: Final = 3 * 3600
PASSING: Final = (Throttled, ReplyLost, Refused, ConnectionError, Conflict)
AGAIN_SECONDS: Final = (5.0, 1.0, 60.0, 1200.0)
CANCEL_AFTER_SECONDS: Final = (900.0, 0.2, 2.0, 30.0, 120.0, 2500.0)

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
        self.submit()
        if choices.draw(f"{run_id}: wish", swarm.cancel) is not None:
            after = choices.among(f"{run_id}: cancelled after", CANCEL_AFTER_SECONDS)
            scheduler.after(after, self.cancel)

    def submit(self) -> None:
        """Submit the run, or go on with a submission that was cut off."""
        run_id = self.run.run_id

        def body(bound: Bound) -> None:
            arguments = {"ledger": bound.ledger, "batch": bound.batch, "now": bound.now}
            if run_id in self._table.runs:
                bound.programs.submit.resume(run_id, **arguments)
            else:
                bound.programs.submit.submit(self.run, **arguments)

        if self._choices.among(f"{run_id}: asks again", (True, False)):
            self._scheduler.after(self._choices.among(f"{run_id}: asks again after", AGAIN_SECONDS), self.ask_again)
        self._command(f"submit {run_id}", body, self._skew_seconds)

    def ask_again(self) -> None:
        """Resume a submission that did not come to an end."""
        run = self._table.runs.get(self.run.run_id)
        if run is None or run.state is RunState.SUBMITTING:
            self.submit()

    def cancel(self) -> None:
        """Cancel the run."""
        self._wants_cancel = True

        def body(bound: Bound) -> None:
            try:
                bound.programs.cancel.cancel(self.run.run_id, ledger=bound.ledger, batch=bound.batch, now=bound.now)
                self._wants_cancel = False
            except UnknownRun:
                self._wants_cancel = False

        self._command(f"cancel {self.run.run_id}", body, self._skew_seconds)

    def insist(self) -> None:
        """Repeat what did not come to an end: faults have ceased."""
        self.ask_again()
        if self._wants_cancel:
            self.cancel()
