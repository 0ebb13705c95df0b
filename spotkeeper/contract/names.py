"""Grammar of the names that travel through Batch, S3, DynamoDB and a shell without quoting."""

import re
from typing import Final

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""Run names, teams, profiles, environments: at most 40 characters, so that a job name stays below Batch's 128."""

RUN_ID_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


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


def parse_job_name(name: str) -> tuple[str, int] | None:
    """Return (run id, submission) of a Batch job's name, or None for a name that `job_name` never makes."""
    run_id, _, submission = name.rpartition("-")
    if not RUN_ID_PATTERN.fullmatch(run_id) or not re.fullmatch(r"[1-9][0-9]{0,3}", submission):
        return None
    return run_id, int(submission)


def descriptor_parameter(environment: str) -> str:
    """SSM parameter that describes an environment: the only physical name that Spotkeeper uses."""
    return f"/spotkeeper/{environment}/descriptor"
