"""How a training job of SageMaker is named where AWS Batch would have a queue and a job id."""

import re
from typing import Final

_QUEUE = re.compile(r"sagemaker/[a-z][a-z0-9-]{0,39}/(spot|on-demand)")
_JOB_ARN = re.compile(r"arn:[a-z-]+:sagemaker:[a-z0-9-]+:[0-9]{12}:training-job/(?P<name>[A-Za-z0-9-]{1,63})")

AWS_BATCH: Final = "AWS Batch"
SAGEMAKER: Final = "SageMaker"

LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"
"""SageMaker's own, of all training jobs of an account and region. Streams: `<job>/algo-<node>-<time since 1970>`."""

STOP_REASON_TAG: Final = "spotkeeper:stop-reason"
"""Why a job was stopped, and when: see `control.aws.stop_reason`."""


def queue_of(profile: str, market: str) -> str:
    """Return what stands for a queue: SageMaker has none, and a run's money goes by profile and market."""
    return f"sagemaker/{profile}/{market}"


def is_queue(queue: str) -> bool:
    """Tell whether a queue stands for SageMaker."""
    return _QUEUE.fullmatch(queue) is not None


def service_of(queue: str) -> str:
    """Return the name of the service that runs a queue's jobs, for people."""
    return SAGEMAKER if is_queue(queue) else AWS_BATCH


def service_of_job(job_id: str) -> str:
    """Return the name of the service that has a job, by its id."""
    return AWS_BATCH if job_of_arn(job_id) is None else SAGEMAKER


def job_of_arn(job_id: str) -> str | None:
    """Return the name of the training job whose ARN this is; None for the id of a job on AWS Batch."""
    match = _JOB_ARN.fullmatch(job_id)
    return match["name"] if match else None
