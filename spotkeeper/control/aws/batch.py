"""AWS Batch: the only module that calls it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from spotkeeper.control.ports import (
    Job,
    JobAttempt,
    JobOrder,
    JobStatus,
    NoSuchQueue,
    NotAllowed,
    Refused,
    ReplyLost,
    Throttled,
)

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

SUBMIT_CONFIG: Final = Config(retries={"total_max_attempts": 1})
"""For the client that submits: SubmitJob has no idempotency token, so a repetition may start a second job."""

_THROTTLES: Final = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})
NOT_ALLOWED: Final = frozenset({"AccessDeniedException", "AccessDenied"})
_TOO_MANY_REQUESTS: Final = 429
SERVER_ERROR: Final = 500
_DESCRIBED_PER_CALL: Final = 100
_CLIENT_ERROR: Final = "ClientException"
_IS_GONE: Final = re.compile("not found|does not exist", re.IGNORECASE)


class AWSBatch:
    """Implements `ports.Batch`.

    Args:
        client: For everything that may be repeated.
        submit_client: Made with `SUBMIT_CONFIG`; only `submit` needs it.
    """

    def __init__(self, client: "BatchClient", submit_client: "BatchClient | None" = None) -> None:
        self._client = client
        self._submit_client = submit_client

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job, once."""
        assert self._submit_client is not None, "this program does not submit"
        try:
            return self._submit_client.submit_job(**request)["jobId"]
        except (ReadTimeoutError, ConnectionClosedError) as error:
            raise ReplyLost(str(error)) from error
        except ClientError as error:
            raise _submit_refusal(error) from error

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the jobs of the name in the queue, oldest first."""
        # With a filter ListJobs returns every state, newest first, and ignores case; the emulator ignores filters.
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        try:
            job_ids = [job["jobId"] for page in pages for job in page["jobSummaryList"] if job["jobName"] == name]
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            if code == _CLIENT_ERROR and _IS_GONE.search(message):
                raise NoSuchQueue(message) from error
            raise _refusal(error) from error
        return self._described(job_ids[::-1])

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        return next(iter(self._described([job_id])), None)

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return the jobs as they are now."""
        return self._described(list(job_ids))

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job."""
        try:
            self._client.terminate_job(jobId=job_id, reason=reason)
        except ClientError as error:
            raise _refusal(error) from error

    def withdraw(self, job_id: str, reason: str) -> None:
        """Cancel the job if it waits: CancelJob leaves one that is STARTING or RUNNING alone."""
        try:
            self._client.cancel_job(jobId=job_id, reason=reason)
        except ClientError as error:
            raise _refusal(error) from error

    def _described(self, job_ids: list[str]) -> tuple[Job, ...]:
        by_id: dict[str, Job] = {}
        for start in range(0, len(job_ids), _DESCRIBED_PER_CALL):
            try:
                reply = self._client.describe_jobs(jobs=job_ids[start : start + _DESCRIBED_PER_CALL])
            except ClientError as error:
                raise _refusal(error) from error
            by_id.update({detail["jobId"]: job_of(detail) for detail in reply["jobs"]})
        return tuple(by_id[job_id] for job_id in job_ids if job_id in by_id)


def job_of(detail: Mapping[str, Any]) -> Job:
    """Return a job from Batch's JobDetail, in DescribeJobs or in an event."""
    attempts = [
        JobAttempt(
            started_at=_time(told.get("startedAt")),
            stopped_at=_time(told.get("stoppedAt")),
            exit_code=told.get("container", {}).get("exitCode"),
            status_reason=told.get("statusReason"),
            reason=told.get("container", {}).get("reason"),
            log_stream=told.get("container", {}).get("logStreamName"),
        )
        for told in detail.get("attempts") or []
    ]
    status = JobStatus(detail["status"])
    if status is JobStatus.RUNNING and all(attempt.stopped_at is not None for attempt in attempts):
        # `attempts` holds the ended ones; the running one is told by the job's own fields.
        stream = detail.get("container", {}).get("logStreamName")
        attempts.append(JobAttempt(started_at=_time(detail.get("startedAt")), log_stream=stream))
    array = detail.get("arrayProperties") or {}
    return Job(
        job_id=detail["jobId"],
        name=detail["jobName"],
        status=status,
        status_reason=detail.get("statusReason"),
        stopped_at=_time(detail.get("stoppedAt")),
        attempts=tuple(attempts),
        array_size=array.get("size") if "index" not in array else None,
        array_index=array.get("index"),
        order=_order_of(detail),
    )


def _order_of(detail: Mapping[str, Any]) -> JobOrder:
    container = detail.get("container", {})
    return JobOrder(
        queue=detail["jobQueue"],
        definition=detail["jobDefinition"],
        created_at=_time(detail.get("createdAt")) or "",
        team=detail.get("shareIdentifier"),
        command=tuple(container.get("command", ())),
        parameters=dict(detail.get("parameters") or {}),
        variables={pair["name"]: pair.get("value", "") for pair in container.get("environment", ())},
        tags=dict(detail.get("tags") or {}),
        attempt_seconds=(detail.get("timeout") or {}).get("attemptDurationSeconds"),
        priority=detail.get("schedulingPriority"),
    )


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def is_throttle(error: ClientError) -> bool:
    """Tell whether AWS refused a call for its rate."""
    too_many = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _TOO_MANY_REQUESTS
    return too_many or error.response["Error"]["Code"] in _THROTTLES


def _refusal(error: ClientError) -> Exception:
    return Throttled(str(error)) if is_throttle(error) else error


def _submit_refusal(error: ClientError) -> Exception:
    if is_throttle(error):
        return Throttled(str(error))
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= SERVER_ERROR:
        return ReplyLost(message)
    if code in NOT_ALLOWED:
        return NotAllowed(f"{code}: {message}")
    # Every other refusal comes before anything happened: AccessDeniedException, a role that is not allowed, and so on.
    return Refused(message if code == _CLIENT_ERROR else f"{code}: {message}")
