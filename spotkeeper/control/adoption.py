"""Take a job that somebody else submitted for a run: only where its submitter has asked for that, and it can be.

The submitter tags the job and has `spotkeeper-exec` start the program, which claims the run as every attempt does. What
counts is what AWS Batch says of the job, so no event, whoever sent it, can make a run of a job that does not ask.
"""

from typing import Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags, training
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import RUN_ID_PATTERN, job_name
from spotkeeper.control import training_adoption
from spotkeeper.control.ports import Job, JobOrder, JobStatus
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.placement import Market

_PLACEHOLDER: Final = "Ref::"
# Set for each submission anew, or by AWS itself.
_NOT_KEPT: Final = (variables.RUN_ID, variables.SUBMISSION, variables.ATTEMPT_SECONDS, "MANAGED_BY_AWS")
_RESERVED: Final = "AWS_BATCH"


def run_of(job: Job, *, terms: EnvironmentTerms) -> Run | str:
    """Return the run that a job asks to be, in its first submission; or why it is none."""
    order = job.order
    if training.is_queue(order.queue):
        return training_adoption.run_of(job, terms=terms)
    if order.tags.get(tags.REQUEUE) != tags.REQUEUE_VALUE:
        return f"it has no tag {tags.REQUEUE}={tags.REQUEUE_VALUE}"
    place = terms.place_of(order.queue)
    if place is None or place[1] is not Market.SPOT:
        return "it is in no spot queue of this environment"
    run_id = order.variables.get(variables.RUN_ID, "")
    refusal = _refusal(job, order, run_id)
    if refusal is not None:
        return refusal
    assert order.team is not None
    assert order.attempt_seconds is not None
    return Run(
        run_id=run_id,
        created_at=order.created_at,
        environment=terms.environment,
        team=order.team,
        profile=place[0],
        market=Market.SPOT.value,
        job_queue=order.queue,
        job_definition=order.definition,
        command=_program(order.command),
        variables={
            name: value
            for name, value in order.variables.items()
            if name not in _NOT_KEPT and not name.startswith(_RESERVED)
        },
        attempt_seconds=order.attempt_seconds,
        state=RunState.SUBMITTED,
        job_id=job.job_id,
    )


def _refusal(job: Job, order: JobOrder, run_id: str) -> str | None:
    """Return why a job that asks to be a run cannot be submitted again as one."""
    if order.command[:1] != ENTRY_POINT[:1] or not _program(order.command):
        return f"its command does not begin with {ENTRY_POINT[0]}"
    if not RUN_ID_PATTERN.fullmatch(run_id):
        return f"its {variables.RUN_ID} is no run id: {run_id!r}"
    if order.variables.get(variables.SUBMISSION) != training_adoption.FIRST_SUBMISSION:
        return f"its {variables.SUBMISSION} is not {training_adoption.FIRST_SUBMISSION}"
    if job.array_index is not None or job.array_size is not None:
        return "it belongs to an array job: `spotkeeper sweep submit` submits arrays"
    if job.name != job_name(run_id, 1):
        # The name is by which a submission is found again.
        return f"it is named {job.name!r}, not {job_name(run_id, 1)!r}"
    if order.parameters or any(_PLACEHOLDER in word for word in order.command):
        return "its command has parameters, which a next submission would not be given"
    if order.team is None:
        return "it has no share identifier, which names its team"
    if order.attempt_seconds is None:
        return "it has no time limit"
    if job.status is JobStatus.SUCCEEDED:
        return "it has succeeded"
    return None


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return what follows the entry point, which takes the separator or leaves it."""
    return command[len(ENTRY_POINT) :] if command[: len(ENTRY_POINT)] == ENTRY_POINT else command[1:]
