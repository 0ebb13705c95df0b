"""Take a training job that somebody sent by hand, or by the SageMaker SDK, for the run that its request describes.

The request is that of `training_request`, as `submit --dry-run` prints it: its variables say which run it is, in which
submission, and whose. What counts is what SageMaker describes, and only what a next job would be asked for with.
"""

from collections.abc import Sequence
from typing import Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import RUN_ID_PATTERN, job_name, max_training_run_id, parse_job_name
from spotkeeper.contract.training import job_of_arn
from spotkeeper.control.listing import Listed
from spotkeeper.control.ports import ContainerInput, Job, JobStatus, Ports
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms, TrainingTerms
from spotkeeper.policy.placement import Market

FIRST_SUBMISSION: Final = "1"
# Set for each submission anew.
_NOT_KEPT: Final = frozenset(
    {
        variables.ENVIRONMENT,
        variables.RUN_ID,
        variables.SUBMISSION,
        variables.TEAM,
        variables.ATTEMPT_SECONDS,
        variables.QUEUE,
        variables.CHECKPOINT_URI,
        variables.LEDGER_TABLE,
    }
)
# A run goes on in jobs of its own requests, which say what a run knows: its command and its variables.
_LEFT_BEHIND: Final = {
    ContainerInput.CHANNELS: (
        "its InputDataConfig holds channels, which the run's next job would lack: leave it out, and name the data by "
        f"variables {variables.DATA_PREFIX}<NAME>=s3://... (`spotkeeper submit --data NAME=s3://...`)"
    ),
    ContainerInput.HYPERPARAMETERS: (
        "it has HyperParameters, which the run's next job would lack: give them as arguments of the command or as "
        "variables (`spotkeeper submit --env NAME=VALUE -- COMMAND`)"
    ),
    ContainerInput.CHECKPOINTS: (
        "its CheckpointConfig holds a folder that the run's next job would lack: leave it out, since a run's "
        f"checkpoints are at its {variables.CHECKPOINT_URI} (`spotkeeper submit --checkpoint-folder FOLDER` for a "
        "program without the library)"
    ),
}


def run_of(job: Job, *, terms: EnvironmentTerms) -> Run | str:
    """Return the run that a training job asks to be, in its first submission; or why it is none."""
    order = job.order
    place = terms.place_of(order.queue)
    profile = terms.profiles[place[0]] if place is not None else None
    if place is None or profile is None or profile.training is None or place[1] is not Market.SPOT:
        return "it names no spot profile of SageMaker in this environment"
    refusal = _refusal(job, profile, profile.training, terms)
    if refusal is not None:
        return refusal
    assert order.attempt_seconds is not None
    is_first_type = order.instance_type == profile.spot_instance_types[0]
    return Run(
        run_id=order.variables[variables.RUN_ID],
        created_at=order.created_at,
        environment=terms.environment,
        team=order.variables[variables.TEAM],
        profile=place[0],
        market=Market.SPOT.value,
        job_queue=order.queue,
        job_definition=order.definition,
        command=order.command[len(ENTRY_POINT) :],
        variables={name: value for name, value in order.variables.items() if name not in _NOT_KEPT},
        attempt_seconds=order.attempt_seconds,
        source_sha256=order.variables.get(variables.SOURCE_SHA256),
        num_nodes=order.num_nodes,
        instance_type=None if is_first_type else order.instance_type,
        state=RunState.SUBMITTED,
        job_id=job.job_id,
    )


def unheard(page: Sequence[Listed], ports: Ports) -> list[str | None]:
    """Return for each training job in progress its id if its name is of no run: the event that told of it may be lost.

    None stands for one that is of a run that is known, or of none.
    """
    run_ids = [_run_id_of(entry.run_id, ports.terms.environment) for entry in page]
    asked = list({run_id: None for run_id in run_ids if run_id is not None})
    known = {run.run_id for run in ports.ledger.get_many(asked)} if asked else set()
    return [
        entry.run_id if run_id is not None and run_id not in known else None
        for entry, run_id in zip(page, run_ids, strict=True)
    ]


def _run_id_of(job_id: str, environment: str) -> str | None:
    """Return the run that a training job's name is of."""
    named = parse_job_name((job_of_arn(job_id) or "").removeprefix(f"{environment}-"))
    return named[0] if named is not None else None


def _refusal(job: Job, profile: ProfileTerms, training: TrainingTerms, terms: EnvironmentTerms) -> str | None:
    """Return why a training job cannot be submitted again as a run."""
    order, told = job.order, job.order.variables
    run_id, team = told.get(variables.RUN_ID, ""), told.get(variables.TEAM)
    is_ours = order.command[: len(ENTRY_POINT)] == ENTRY_POINT and len(order.command) > len(ENTRY_POINT)
    bucket, max_id = f"s3://{training.checkpoint_bucket}", max_training_run_id(terms.environment)
    checks = (
        (order.role == training.role_arn, f"its role is not that of the environment's training jobs: {order.role}"),
        (
            not (order.is_isolated or training.is_isolated),
            "jobs without network become runs by `spotkeeper submit` alone",
        ),
        (RUN_ID_PATTERN.fullmatch(run_id) is not None, f"its {variables.RUN_ID} is no run id: {run_id!r}"),
        (
            len(run_id) <= max_id,
            f"its {variables.RUN_ID} has {len(run_id)} characters, and the names of later jobs leave room for {max_id}",
        ),
        (
            told.get(variables.SUBMISSION) == FIRST_SUBMISSION,
            f"its {variables.SUBMISSION} is not {FIRST_SUBMISSION}",
        ),
        # The name is by which a submission is found again.
        (
            job.name == job_name(run_id, 1),
            f"it is named {job.name!r} behind the environment, not {job_name(run_id, 1)!r}",
        ),
        (team in terms.teams, f"its {variables.TEAM} is none of the environment's teams: {team!r}"),
        (
            told.get(variables.LEDGER_TABLE) == training.ledger_table,
            f"its {variables.LEDGER_TABLE} is not the environment's, so it cannot claim the run",
        ),
        (
            told.get(variables.CHECKPOINT_URI) == bucket,
            f"its {variables.CHECKPOINT_URI} is not {bucket}, so no other job would find its checkpoints",
        ),
        (
            order.instance_type is not None,
            "it is no managed spot job of one instance type (EnableManagedSpotTraining, InstanceType)",
        ),
        (
            order.instance_type in profile.spot_instance_types,
            f"it asks for no spot type of its profile: {order.instance_type}",
        ),
        *((each not in order.inputs, why) for each, why in _LEFT_BEHIND.items()),
        (is_ours, f"its container does not start {' '.join(ENTRY_POINT)} and a program"),
        (order.attempt_seconds is not None, "it has no time limit"),
        (job.status is not JobStatus.SUCCEEDED, "it has succeeded"),
    )
    return next((why for is_right, why in checks if not is_right), None)
