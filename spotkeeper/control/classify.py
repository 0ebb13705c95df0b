"""From what Batch says about an attempt to the cause of its end: a table, read from the top.

The order matters: a lost host leaves exit code 137 or none, which alone would read as the program's failure; a
container over its memory leaves 137 too. Host loss carries the same text whatever took the host, so only the
warning of EC2 makes it an interruption.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spotkeeper.contract.duration import format_elapsed
from spotkeeper.contract.events import HOST_LOST_STATUS_REASON
from spotkeeper.contract.exit_codes import (
    EXIT_COMPLETED,
    EXIT_FENCED,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_YIELDED,
)
from spotkeeper.contract.training import is_queue
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Job, JobStatus
from spotkeeper.control.run import Attempt

CANCEL_REASON: Final = "Cancelled with spotkeeper cancel"
"""Given to TerminateJob; Batch makes it the job's status reason."""

PAUSE_REASON: Final = "Paused with spotkeeper pause"

TWIN_REASON: Final = "Twin: another job holds this run"
STANDBY_REASON: Final = "Standby: the run does not need it any more"
PRIORITY_REASON: Final = "Withdrawn with spotkeeper priority"
WAITED_REASON: Final = "Withdrawn by Spotkeeper: no capacity"
"""Given to CancelJob, for a job that Batch would let wait on."""
STUCK_REASON: Final = "Stopped by Spotkeeper: its container did not start"
SWITCHED_OFF_REASON: Final = "On-demand was switched off"
OVER_BUDGET_REASON: Final = "The lease of this job cannot be renewed: a total cap is reached"
OVER_MONTH_REASON: Final = "The lease of this job cannot be renewed: the total cap of this month is reached"

NORMAL_EXIT: Final = "Essential container in task exited"
TIME_LIMIT: Final = "Job attempt duration exceeded timeout"
_STATE_LIMIT: Final = ("Canceled by JobStateTimeLimit action", "Terminated by JobStateTimeLimit action")
_MISCONFIGURED: Final = tuple(f"{action} due to reason: MISCONFIGURATION:" for action in _STATE_LIMIT)
DRAINED: Final = "Task stopped during instance draining"

_START_FAILURES: Final = (
    STUCK_REASON,
    "Task failed to start",
    "CannotPullContainerError",
    "CannotPullECRContainerError",
    "CannotPullImageManifestError",
    "CannotCreateContainerError",
    "CannotStartContainerError",
    "CannotInspectContainerError",
    "CannotCreateVolumeError",
    "ResourceInitializationError",
    "DockerTimeoutError",
    "HostConfigError",
)
_IMAGE_PULL: Final = ("CannotPullContainerError", "CannotPullECRContainerError", "CannotPullImageManifestError")
# What registries say of an image that is not there: no machine will find it.
_NO_SUCH_IMAGE: Final = ("not found", "manifest unknown", "pull access denied", "repository does not exist")
# Words of SageMaker: statuses of a job that it has stopped, and how FailureReason begins.
_INTERRUPTED: Final = "Interrupted: "
_MAX_WAIT: Final = "MaxWaitTimeExceeded"
_STOPPED: Final = "Stopped"
"""All that SageMaker says of a stop by somebody; what a failed job says is why it failed."""
_MAX_RUNTIME: Final = "MaxRuntimeExceeded"
_CAPACITY_ERROR: Final = "CapacityError"
_SERVICE_ERRORS: Final = ("InternalServerError", "InternalServiceError")
_CLIENT_ERROR: Final = "ClientError"
_ALGORITHM_ERROR: Final = "AlgorithmError"
_ENDED_BY_SIGNAL: Final = (137, 143)
_HOST = re.compile(r"Host EC2 \(instance (i-[0-9a-f]+)\)")


class Cause(StrEnum):
    """How an attempt ended."""

    INTERRUPTED = "interrupted"
    """EC2 warned and took the instance back."""
    HOST_LOST = "host-lost"
    """The host is gone, without a warning that reached us."""
    CANCELLED = "cancelled"
    PAUSED = "paused"
    REPRIORITIZED = "reprioritized"
    """Withdrawn while it waited, to be submitted with another priority."""
    TWIN = "twin"
    """A second job of the same submission, stopped."""
    STANDBY = "standby"
    """A standby that was not needed any more."""
    SWITCHED_OFF = "switched-off"
    """Somebody turned the kill switch of on-demand."""
    OVER_BUDGET = "over-budget"
    """The run's own money, or its sweep's, is used up."""
    OVER_MONTH = "over-month"
    """The month's money, of its team or the environment, is used up."""
    NO_CAPACITY = "no-capacity"
    """Batch, or we, gave up waiting for capacity."""
    MISCONFIGURED = "misconfigured"
    """Batch gave up: the queue can never run this job."""
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    COULD_NOT_START = "could-not-start"
    NO_SUCH_IMAGE = "no-such-image"
    YIELDED = "yielded"
    FENCED = "fenced"
    INCOMPLETE = "incomplete"
    """Exit 0 without proof that the program finished."""
    REFUSED = "refused"
    """`spotkeeper-exec` found its settings unusable."""
    COMPLETED = "completed"
    TERMINATED = "terminated"
    """Somebody stopped the job, not through Spotkeeper."""
    FAILED = "failed"
    """The user's program ended with an exit code of its own, or with one that SageMaker does not tell."""
    UNKNOWN = "unknown"


def _says(attempt: Attempt, *beginnings: str) -> bool:
    texts = (attempt.status_reason, attempt.reason, attempt.job_status_reason)
    return any(text is not None and text.startswith(beginnings) for text in texts)


def _host_lost(attempt: Attempt) -> bool:
    # The attempt's own reason only: a job cancelled while it waits for its retry did not lose that host again.
    return attempt.status_reason is not None and attempt.status_reason.startswith((HOST_LOST_STATUS_REASON, DRAINED))


def _gave_up_waiting(attempt: Attempt) -> bool:
    # AWS gives up for capacity while the job waits, so an attempt that did start ended for another cause.
    return attempt.started_at is None and _says(attempt, WAITED_REASON, *_STATE_LIMIT, _MAX_WAIT, _CAPACITY_ERROR)


def _ran_out_of_memory(attempt: Attempt) -> bool:
    told = attempt.status_reason or ""
    return _says(attempt, "OutOfMemoryError") or (told.startswith(_ALGORITHM_ERROR) and "OutOfMemory" in told)


def has_waited_in_vain(job: Job) -> bool:
    """Tell whether a job ended without ever having had a machine that AWS knew of."""
    words = (WAITED_REASON, *_STATE_LIMIT, _MAX_WAIT, _CAPACITY_ERROR)
    return job.has_ended and not job.attempts and (job.status_reason or "").startswith(words)


def _has_no_image(attempt: Attempt) -> bool:
    texts = (attempt.reason, attempt.status_reason)
    return any(
        text is not None and text.startswith(_IMAGE_PULL) and any(word in text for word in _NO_SUCH_IMAGE)
        for text in texts
    )


def _stopped_by_somebody(attempt: Attempt) -> bool:
    """The job's reason is free text of whoever terminated it, and the exit code is that of a signal or absent."""
    reason = attempt.job_status_reason
    ended_by_signal = attempt.exit_code in (None, *_ENDED_BY_SIGNAL)
    return ended_by_signal and reason is not None and reason not in (attempt.status_reason, NORMAL_EXIT)


_RULES: Final[tuple[tuple[Cause, Callable[[Attempt], bool]], ...]] = (
    (Cause.INTERRUPTED, lambda attempt: _host_lost(attempt) and attempt.warned_at is not None),
    (Cause.INTERRUPTED, lambda attempt: (attempt.status_reason or "").startswith(_INTERRUPTED)),
    (Cause.HOST_LOST, _host_lost),
    (Cause.CANCELLED, lambda attempt: _says(attempt, CANCEL_REASON)),
    (Cause.PAUSED, lambda attempt: _says(attempt, PAUSE_REASON)),
    (Cause.REPRIORITIZED, lambda attempt: attempt.started_at is None and _says(attempt, PRIORITY_REASON)),
    (Cause.TWIN, lambda attempt: _says(attempt, TWIN_REASON)),
    (Cause.STANDBY, lambda attempt: _says(attempt, STANDBY_REASON)),
    (Cause.SWITCHED_OFF, lambda attempt: _says(attempt, SWITCHED_OFF_REASON)),
    (Cause.OVER_BUDGET, lambda attempt: _says(attempt, OVER_BUDGET_REASON)),
    (Cause.OVER_MONTH, lambda attempt: _says(attempt, OVER_MONTH_REASON)),
    (Cause.MISCONFIGURED, lambda attempt: _gave_up_waiting(attempt) and _says(attempt, *_MISCONFIGURED)),
    (Cause.NO_CAPACITY, _gave_up_waiting),
    # SageMaker gives a job that is withdrawn its machines, if that is the moment, and stops it with them.
    (Cause.YIELDED, lambda attempt: _says(attempt, WAITED_REASON)),
    (Cause.TIMED_OUT, lambda attempt: _says(attempt, TIME_LIMIT, _MAX_RUNTIME, _MAX_WAIT)),
    (Cause.OUT_OF_MEMORY, _ran_out_of_memory),
    (Cause.COMPLETED, lambda attempt: attempt.exit_code == EXIT_COMPLETED),
    (Cause.YIELDED, lambda attempt: attempt.exit_code == EXIT_YIELDED),
    (Cause.FENCED, lambda attempt: attempt.exit_code == EXIT_FENCED),
    (Cause.INCOMPLETE, lambda attempt: attempt.exit_code == EXIT_INCOMPLETE),
    (Cause.REFUSED, lambda attempt: attempt.exit_code == EXIT_REFUSED),
    (Cause.NO_SUCH_IMAGE, _has_no_image),
    (Cause.COULD_NOT_START, lambda attempt: _says(attempt, *_SERVICE_ERRORS)),
    (Cause.MISCONFIGURED, lambda attempt: attempt.exit_code is None and _says(attempt, _CLIENT_ERROR)),
    (Cause.COULD_NOT_START, lambda attempt: _says(attempt, *_START_FAILURES)),
    # The program failed, though its words left no room for its exit code.
    (Cause.FAILED, lambda attempt: attempt.exit_code is None and _says(attempt, _ALGORITHM_ERROR)),
    (Cause.TERMINATED, _stopped_by_somebody),
    (Cause.FAILED, lambda attempt: attempt.exit_code is not None),
    (Cause.UNKNOWN, lambda _: True),
)

_EXPLANATIONS: Final = {
    Cause.INTERRUPTED: "EC2 took the instance back, and Batch has no retry left",
    Cause.HOST_LOST: "the host was lost, and Batch has no retry left",
    Cause.CANCELLED: "cancelled",
    Cause.PAUSED: "paused",
    Cause.REPRIORITIZED: "withdrawn to be submitted with another priority",
    Cause.TWIN: "stopped as the second job of one submission",
    Cause.STANDBY: "stopped as a standby that was not needed any more",
    Cause.SWITCHED_OFF: "on-demand was switched off",
    Cause.OVER_BUDGET: "a total cap is reached: raise it with `spotkeeper budget set`, then `spotkeeper resume RUN`",
    Cause.OVER_MONTH: "the total cap of this month is reached, of its team or the environment",
    Cause.NO_CAPACITY: "no capacity within the queue's time limit: {text}",
    Cause.MISCONFIGURED: "its queue cannot run this job: {text}",
    Cause.TIMED_OUT: (
        "the attempt reached its time limit: if it had saved too little to go on from, submit again with a longer "
        "--time-limit (a new run starts from the beginning)"
    ),
    Cause.OUT_OF_MEMORY: "the container ran out of memory: choose a larger profile, or a smaller batch",
    Cause.NO_SUCH_IMAGE: "the image cannot be pulled: {text}",
    Cause.COULD_NOT_START: "the container could not start: {text}",
    Cause.YIELDED: "the attempt stopped on request, and Batch has no retry left",
    Cause.FENCED: "the attempt was refused: the run belonged to another",
    Cause.INCOMPLETE: (
        "the program exited 0 before the last step of its training: if it was to stop early, call `run.finish()`"
    ),
    Cause.REFUSED: "spotkeeper-exec refused its settings, or could not start the program: its log says which",
    Cause.COMPLETED: "the program exited 0, but there is no completion record of the current epoch",
    Cause.TERMINATED: "somebody stopped the job: {text}",
    Cause.FAILED: "the program failed {how}",
    Cause.UNKNOWN: "the attempt ended and AWS gave no reason",
}
_END_OF_SEGMENT: Final = "its segment on on-demand is over, as planned; its market is chosen anew"
_ON_SAGEMAKER: Final = {
    Cause.INTERRUPTED: "SageMaker's machines were taken back",
    Cause.NO_CAPACITY: "no {machine}",
    Cause.MISCONFIGURED: "SageMaker could not prepare the job; mend what it says, then `spotkeeper resume RUN`: {text}",
    Cause.COULD_NOT_START: "the container could not start, or SageMaker itself failed: {text}",
    Cause.YIELDED: "the attempt stopped on request",
    Cause.TERMINATED: "somebody stopped the job, and SageMaker does not tell why",
    Cause.UNKNOWN: "the job ended, and SageMaker says: {text}",
}
"""Where the words for AWS Batch would be wrong: SageMaker has no queue and no retries, and a stop takes no reason."""


def classify(attempt: Attempt) -> Cause | None:
    """Return how the attempt ended, or None while it runs. A function of recorded facts alone."""
    if attempt.stopped_at is None:
        return None
    return next(cause for cause, applies in _RULES if applies(attempt))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a job ended."""

    cause: Cause
    words: str
    """For people."""


def ending_of(job: Job, last: Attempt | None, *, is_segment: bool = False) -> Ending:
    """Return how a job ended, from its last attempt (None: none started) and the job's own reason.

    `is_segment`: its time limit was not the run's own, but that of one attempt on on-demand.

    A job that AWS or somebody ended while it waited for its retry ended for that reason, not for that of the
    attempt before.
    """
    if job.status is JobStatus.SUCCEEDED:
        return Ending(cause=Cause.COMPLETED, words=_EXPLANATIONS[Cause.COMPLETED])
    told_of_job = last is None or job.status_reason not in (None, NORMAL_EXIT, last.status_reason)
    attempt = last
    if attempt is None or (told_of_job and attempt.exit_code in (None, *_ENDED_BY_SIGNAL, EXIT_YIELDED)):
        attempt = Attempt(run_id="", submission=1, attempt=1, job_status_reason=job.status_reason)
    cause = next(cause for cause, applies in _RULES if applies(attempt))
    is_training = is_queue(job.order.queue)
    if cause is Cause.TERMINATED and is_training and job.status_reason != _STOPPED:
        cause = Cause.UNKNOWN
    text = attempt.reason or attempt.job_status_reason or attempt.status_reason or "nothing"
    how = f"with exit code {attempt.exit_code}" if attempt.exit_code is not None else f"in these words: {text}"
    words = _ON_SAGEMAKER.get(cause, _EXPLANATIONS[cause]) if is_training else _EXPLANATIONS[cause]
    if cause is Cause.TIMED_OUT and is_segment:
        words = _END_OF_SEGMENT
    machine = _machine_lacked(job, last) if is_training and cause is Cause.NO_CAPACITY else ""
    return Ending(cause=cause, words=words.format(text=text, how=how, machine=machine))


def _machine_lacked(job: Job, last: Attempt | None) -> str:
    """Return which machine a training job had none of, since it was asked for or lost its last one."""
    type_ = job.order.instance_type
    machine = f"{type_} on spot" if type_ is not None else "machine on on-demand"
    since = job.order.created_at if last is None else last.stopped_at
    # One that was withdrawn as it got its machines has not lacked them since.
    is_withdrawn_late = last is not None and not (last.status_reason or "").startswith(_INTERRUPTED)
    if since is not None and job.stopped_at is not None and not is_withdrawn_late:
        machine += f" for {format_elapsed(seconds_between(since, job.stopped_at))}"
    words = job.status_reason or ""
    if words.startswith(_MAX_WAIT):
        return f"{machine}, after which SageMaker gave up ({_MAX_WAIT})"
    return machine if words.startswith(WAITED_REASON) else f"{machine}: {words}"


def instance_of(attempt: Attempt) -> str | None:
    """Return the attempt's instance: what it said itself, or what Batch says of a lost host."""
    match = _HOST.match(attempt.status_reason or "")
    return attempt.instance_id or (match[1] if match else None)
