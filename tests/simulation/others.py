"""Others, who submit to the spot queue past us: one who wants nothing of us, and one who asks that we requeue the job.

The stranger's job may look in all but the tag like one that asks, as a copy of its definition does; or bear the name of
a run's first job.
"""

from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.names import job_name
from spotkeeper.control.run import Run
from tests.simulation.attempt import PARAMETER
from tests.simulation.batch import Batch, BatchJob
from tests.simulation.fakes import Trace
from tests.simulation.operators import Operator
from tests.simulation.sched import Scheduler

STRANGER: Final = "stranger"
COPY: Final = "copy"
"""A stranger's job that lacks nothing but the tag."""
ASKING: Final = "asking"
NAMESAKE: Final = "namesake"
"""A stranger's job that bears the name of a run's first."""
WITHOUT_RUN: Final = (STRANGER, NAMESAKE)
"""Jobs that know nothing of us."""
PARAMETER_OF_OTHERS: Final = "7"
STRANGERS_SECONDS: Final = 5000.0


class Asking(Operator):
    """Who submits a job past us and asks that it becomes a run, and tends that as any run is tended."""

    def begin(self) -> None:
        """The job is submitted by the world."""

    def submit(self) -> None:
        """Never twice: whoever submits past us has no look-up."""


def job_of_others(kind: str, run: Run) -> dict[str, Any]:
    """Return the SubmitJob request of a job that somebody else submits."""
    environment = {PARAMETER: PARAMETER_OF_OTHERS}
    if kind not in WITHOUT_RUN:
        environment |= {variables.RUN_ID: run.run_id, variables.SUBMISSION: "1"}
    return {
        "jobName": job_name(run.run_id, 1),
        "jobQueue": run.job_queue,
        "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/theirs:1",
        "shareIdentifier": run.team,
        "containerOverrides": {
            "command": [*(() if kind in WITHOUT_RUN else ENTRY_POINT), *run.command],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        },
        "timeout": {"attemptDurationSeconds": run.attempt_seconds},
        "tags": {tags.REQUEUE: tags.REQUEUE_VALUE} if kind == ASKING else {},
    }


def knows_no_run(job: BatchJob) -> bool:
    """Tell whether a job knows nothing of us, whatever its name is."""
    return not {variables.RUN_ID, variables.SWEEP} & job.environment.keys()


class StrangersContainer:
    """One attempt of a job that knows nothing of us."""

    def __init__(self, batch: Batch, job: BatchJob, number: int, *, scheduler: Scheduler, trace: Trace) -> None:
        self.is_cut_off = False
        self._batch, self._job, self._number = batch, job, number
        self._scheduler = scheduler
        self._is_told = False
        self._name, self._trace = f"{job.job_id}#{number}", trace
        self._program = scheduler.start(self._name, self._live)

    def give_notice(self) -> None:
        """Nobody reads it."""

    def request_stop(self) -> None:
        """Deliver SIGTERM, which ends it."""
        self._is_told = True
        self._scheduler.wake(self._program)

    def kill(self) -> None:
        """End it where it stands."""
        self._scheduler.stop(self._program)

    def _live(self) -> None:
        self._scheduler.pause(STRANGERS_SECONDS)
        code = 143 if self._is_told else 0
        self._trace(self._name, f"exits {code}")
        self._batch.exited(self._job, self._number, code)
