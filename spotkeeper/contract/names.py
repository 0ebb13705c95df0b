"""Grammar of the names that travel through Batch, S3, DynamoDB and a shell without quoting."""

import re
from typing import Final

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""Run names, teams, profiles, environments: at most 40 characters, so that a job name stays below Batch's 128."""

RUN_ID_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")

MAX_TRAINING_JOB_NAME: Final = 63
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html"""

_ARRAY_SUFFIX: Final = "-array"
"""No job of a run ends so: those end in a number."""


def check_name(kind: str, value: str) -> str:
    """Return `value` if it is a well-formed name.

    Raises:
        ValueError: naming the kind, the value and the grammar.
    """
    if not NAME_PATTERN.fullmatch(value) or value.endswith("-"):
        raise ValueError(
            f"{kind} must be 1 to 40 of a-z, 0-9 and -, starting with a letter and not ending with -; got {value!r}"
        )
    return value


def check_run_id(value: str) -> str:
    """Return `value` if it is a well-formed run id.

    Raises:
        ValueError: naming the value and the grammar.
    """
    if not RUN_ID_PATTERN.fullmatch(value):
        raise ValueError(f"a run id must be 1 to 64 of a-z, 0-9 and -, starting with a letter; got {value!r}")
    return value


def job_name(run_id: str, submission: int) -> str:
    """Name of the Batch job of one submission: deterministic, so that a lost SubmitJob reply is found by look-up."""
    return f"{run_id}-{submission}"


def training_job_name(environment: str, run_id: str, submission: int) -> str:
    """Name of a submission's training job on SageMaker, where names are unique in the account and never given twice.

    Raises:
        ValueError: if it is longer than SageMaker takes.
    """
    name = f"{environment}-{job_name(run_id, submission)}"
    if len(name) > MAX_TRAINING_JOB_NAME:
        raise ValueError(
            f"the training job {name!r} of run {run_id!r} would have a name of {len(name)} characters, and SageMaker "
            f"takes {MAX_TRAINING_JOB_NAME}: choose a shorter --name"
        )
    return name


def max_training_run_id(environment: str) -> int:
    """Return how many characters a run id may have, so that SageMaker takes the name of any submission: up to 9999."""
    return MAX_TRAINING_JOB_NAME - len(f"{environment}-") - len("-9999")


def parse_job_name(name: str) -> tuple[str, int] | None:
    """Return (run id, submission) of a Batch job's name, or None for a name that `job_name` never makes."""
    run_id, _, submission = name.rpartition("-")
    if not RUN_ID_PATTERN.fullmatch(run_id) or not re.fullmatch(r"[1-9][0-9]{0,3}", submission):
        return None
    return run_id, int(submission)


def member_id(sweep: str, index: int) -> str:
    """Run id of a sweep's member: what an array job's child can tell from the sweep's name and its own index."""
    return f"{sweep}-{index:04d}"


def array_job_name(sweep: str) -> str:
    """Name of the Batch array job that holds the first submissions of a sweep's members; children share it."""
    return f"{sweep}{_ARRAY_SUFFIX}"


def parse_array_job_name(name: str) -> str | None:
    """Return the sweep of an array job's name, or None for a name that `array_job_name` never makes."""
    sweep = name.removesuffix(_ARRAY_SUFFIX)
    return sweep if sweep != name and NAME_PATTERN.fullmatch(sweep) else None


def stack_name(environment: str, part: str) -> str:
    """Name of an environment's CloudFormation stack; `part` is storage, network, batch, recovery and so on."""
    return f"spotkeeper-{environment}-{part}"


def descriptor_parameter(environment: str) -> str:
    """SSM parameter that describes an environment: the only physical name that Spotkeeper uses."""
    return f"/spotkeeper/{environment}/descriptor"


def environment_of(parameter: str) -> str:
    """Return the environment that a descriptor's parameter describes.

    Raises:
        ValueError: if it is not the name of a descriptor.
    """
    match parameter.split("/"):
        case ["", "spotkeeper", environment, "descriptor"] if environment:
            return environment
    raise ValueError(f"a descriptor's parameter is named {descriptor_parameter('NAME')!r}, got {parameter!r}")
