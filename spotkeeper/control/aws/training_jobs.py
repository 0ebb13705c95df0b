"""SageMaker training: the only module that calls it."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.training import job_of_arn
from spotkeeper.control.aws.batch import NOT_ALLOWED, SERVER_ERROR, is_throttle
from spotkeeper.control.aws.stop_reason import reason_in, replied_at, stopping_since, tag_of
from spotkeeper.control.classify import NORMAL_EXIT
from spotkeeper.control.listing import Listed
from spotkeeper.control.ports import (
    ContainerInput,
    Job,
    JobAttempt,
    JobOrder,
    JobStatus,
    NameTaken,
    NotAllowed,
    QuotaReached,
    Refused,
    ReplyLost,
    Throttled,
)

_LISTED_PER_CALL: Final = 100
_SECOND: Final = timedelta(seconds=1)
INTERRUPTED: Final = "Interrupted"
_TRAINING: Final = "Training"
_WITHOUT_MACHINE: Final = frozenset({"Pending", "Starting", "LaunchingMLInstances", "Restarting", INTERRUPTED})
_WITHOUT_CONTAINER: Final = frozenset({"PreparingTrainingStack", "Downloading", "DownloadingTrainingImage"})
_ENDED: Final = {"Completed": JobStatus.SUCCEEDED, "Failed": JobStatus.FAILED, "Stopped": JobStatus.FAILED}
_EXIT_CODE = re.compile(r"exit ?code:? ?(\d{1,3})", re.IGNORECASE)
_NO_SUCH_JOB: Final = re.compile("not found|does not exist|could not find", re.IGNORECASE)
_EXISTS: Final = "ResourceInUse"
_LIMIT: Final = "ResourceLimitExceeded"
_VALIDATION: Final = "ValidationException"


class SageMakerTraining:
    """Implements `ports.JobService`. A job's id is its ARN; names are unique and never given twice, so twins cannot be.

    Args:
        client: boto3's, of "sagemaker": for everything that may be repeated, and for `submit` too, because a second
            job of the same name is refused.
        environment: Begins the name of each of its training jobs.
    """

    def __init__(self, client: Any, environment: str) -> None:
        self._client = client
        self._environment = environment
        self._prefix = f"{environment}-"

    def submit(self, request: Mapping[str, Any]) -> str:
        """Create the training job, or find that an earlier call has."""
        try:
            arn: str = self._client.create_training_job(**request)["TrainingJobArn"]
        except (ReadTimeoutError, ConnectionClosedError) as error:
            raise ReplyLost(str(error)) from error
        except ClientError as error:
            if _code(error) == _EXISTS:
                raise NameTaken(f"a training job {request['TrainingJobName']} is there already") from error
            raise _refusal_to_create(error) from error
        return arn

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the training job of a submission's name, if it was created for this queue."""
        detail = self._described(self._prefix + name)
        job = self._job(detail) if detail is not None else None
        return (job,) if job is not None and job.order.queue == queue else ()

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        detail = self._described_by_id(job_id)
        return self._job(detail) if detail is not None else None

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job; its container has two minutes to save.

        Raises:
            ClientError: the reason cannot be written to it. It is stopped all the same, since somebody pays for it, and
                ends as one that somebody stopped.
        """
        self._stop(job_id, reason, only_waiting=False)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Stop the job if it waits. One that gets its machines at this very moment is stopped too, and saves.

        Raises:
            ClientError: the reason cannot be written to it. It waits on, which costs nothing: without the reason nobody
                would ask for other machines.
        """
        self._stop(job_id, reason, only_waiting=True)

    def in_progress(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Yield the jobs whose names begin with the environment's; implements `ports.TrainingJobs`."""
        # Sent in whole seconds, and whether that second itself is meant is documented nowhere.
        after = {"CreationTimeAfter": datetime.fromisoformat(behind.created_at) - _SECOND} if behind is not None else {}
        pages = self._client.get_paginator("list_training_jobs").paginate(
            NameContains=self._prefix,
            StatusEquals="InProgress",
            SortBy="CreationTime",
            SortOrder="Ascending",
            PaginationConfig={"PageSize": _LISTED_PER_CALL},
            **after,
        )
        try:
            for page in pages:
                for job in page["TrainingJobSummaries"]:
                    listed = Listed(created_at=_time(job["CreationTime"]) or "", run_id=job["TrainingJobArn"])
                    is_before = behind is not None and (listed.created_at < behind.created_at or listed == behind)
                    if job["TrainingJobName"].startswith(self._prefix) and not is_before:
                        yield listed
        except ClientError as error:
            raise _refusal(error) from error

    def _stop(self, job_id: str, reason: str, *, only_waiting: bool) -> None:
        detail = self._described_by_id(job_id)
        if detail is None or detail["TrainingJobStatus"] != "InProgress":
            return
        if only_waiting and detail["SecondaryStatus"] not in _WITHOUT_MACHINE:
            return
        # First: once it is stopped, nobody can tell why.
        untold = self._tell_reason(job_id, tag_of(reason, at=replied_at(detail)))
        if untold is not None and only_waiting:
            raise untold
        try:
            self._client.stop_training_job(TrainingJobName=detail["TrainingJobName"])
        except ClientError as error:
            if _code(error) != _VALIDATION:  # it has ended meanwhile
                raise _refusal(error) from error
        if untold is not None:
            raise untold

    def _tell_reason(self, job_id: str, tag: dict[str, str]) -> ClientError | None:
        """Write to a job why it is stopped; return the refusal, if a repetition would only be refused again."""
        try:
            self._client.add_tags(ResourceArn=job_id, Tags=[tag])
        except ClientError as error:
            if is_throttle(error) or _http_status(error) >= SERVER_ERROR:
                raise _refusal(error) from error
            return error
        return None

    def _described_by_id(self, job_id: str) -> Mapping[str, Any] | None:
        name = job_of_arn(job_id)
        # Events tell of all jobs of the account, and those of others may not be described.
        if name is None or not name.startswith(self._prefix):
            return None
        detail = self._described(name)
        return detail if detail is not None and detail["TrainingJobArn"] == job_id else None

    def _described(self, name: str) -> Mapping[str, Any] | None:
        try:
            detail: Mapping[str, Any] = self._client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if _code(error) == _VALIDATION and _NO_SUCH_JOB.search(error.response["Error"]["Message"]):
                return None
            raise _refusal(error) from error
        return detail

    def _job(self, detail: Mapping[str, Any]) -> Job | None:
        told = detail.get("Environment") or {}
        # An environment may be called dev, and another dev-eu.
        is_own = detail["TrainingJobName"].startswith(self._prefix)
        if not is_own or told.get(variables.ENVIRONMENT) != self._environment:
            return None
        is_stopped = detail["TrainingJobStatus"] == "Stopped"
        return job_of(detail, prefix=self._prefix, stop_reason=self._stop_reason(detail) if is_stopped else None)

    def _stop_reason(self, detail: Mapping[str, Any]) -> str | None:
        try:
            pages = self._client.get_paginator("list_tags").paginate(ResourceArn=detail["TrainingJobArn"])
            tags = [tag for page in pages for tag in page["Tags"]]
        except ClientError as error:
            raise _refusal(error) from error
        return reason_in(tags, stopping_at=stopping_since(detail))


def job_of(detail: Mapping[str, Any], *, prefix: str, stop_reason: str | None) -> Job:
    """Return a job from what DescribeTrainingJob tells.

    Args:
        detail: The reply.
        prefix: What stands before the submission's name in the training job's.
        stop_reason: Why it was stopped, if we did it.
    """
    status = _ENDED.get(detail["TrainingJobStatus"], _status(detail["SecondaryStatus"]))
    has_ended = status in (JobStatus.SUCCEEDED, JobStatus.FAILED)
    words = _words(detail, stop_reason)
    told = dict(detail.get("Environment") or {})
    algorithm, machines = detail.get("AlgorithmSpecification", {}), detail.get("ResourceConfig", {})
    return Job(
        job_id=detail["TrainingJobArn"],
        name=detail["TrainingJobName"].removeprefix(prefix),
        status=status,
        status_reason=words,
        stopped_at=_time(_ended_at(detail)) if has_ended else None,
        attempts=tuple(_attempts(detail, words)),
        preparations=tuple(_preparations(detail)),
        billed_seconds=detail.get("BillableTimeInSeconds") if has_ended else None,
        instance_type=machines.get("SelectedInstanceType") or machines.get("InstanceType"),
        order=JobOrder(
            queue=told.get(variables.QUEUE, ""),
            definition=algorithm.get("TrainingImage", ""),
            created_at=_time(detail["CreationTime"]) or "",
            command=(*algorithm.get("ContainerEntrypoint", ()), *algorithm.get("ContainerArguments", ())),
            variables=told,
            attempt_seconds=detail["StoppingCondition"].get("MaxRuntimeInSeconds"),
            role=detail.get("RoleArn"),
            instance_type=machines.get("InstanceType") if detail.get("EnableManagedSpotTraining") else None,
            num_nodes=_num_nodes(machines),
            is_isolated=bool(detail.get("EnableNetworkIsolation")),
            inputs=frozenset(each for each in ContainerInput if detail.get(each)),
        ),
    )


def _num_nodes(machines: Mapping[str, Any]) -> int:
    """Return how many machines a job has, or may have at most while SageMaker has yet to select their type."""
    counts = [each["InstanceCount"] for each in machines.get("InstancePreferences", ())]
    in_groups = sum(each["InstanceCount"] for each in machines.get("InstanceGroups", ()))
    told = machines.get("SelectedInstanceCount") or machines.get("InstanceCount")
    return told or in_groups or max(counts, default=1)


def _status(secondary: str) -> JobStatus:
    if secondary in _WITHOUT_MACHINE:
        return JobStatus.RUNNABLE
    return JobStatus.STARTING if secondary in _WITHOUT_CONTAINER else JobStatus.RUNNING


def _words(detail: Mapping[str, Any], stop_reason: str | None) -> str | None:
    """Return why the job ended, or what it waits for."""
    match detail["TrainingJobStatus"]:
        case "Completed":
            return NORMAL_EXIT
        case "Failed":
            reason: str = detail.get("FailureReason") or "Failed"
            return reason
        case "Stopped":
            secondary: str = detail["SecondaryStatus"]
            # Its own limits are told by the status; why somebody stopped it, by whom.
            return stop_reason if secondary == "Stopped" and stop_reason is not None else secondary
    transitions = detail.get("SecondaryStatusTransitions") or ()
    message = transitions[-1].get("StatusMessage") if transitions else None
    return message or None


def _attempts(detail: Mapping[str, Any], words: str | None) -> Iterator[JobAttempt]:
    """Yield one attempt for each time that the containers ran: SageMaker restarts an interrupted job by itself."""
    transitions = detail.get("SecondaryStatusTransitions") or []
    for place, told in enumerate(transitions):
        if told["Status"] != _TRAINING:
            continue
        later = [one for one in transitions[place + 1 :] if one["Status"] in (_TRAINING, INTERRUPTED)]
        started_at = _time(told["StartTime"])
        if later:
            ended = later[0]
            yield JobAttempt(
                started_at=started_at,
                stopped_at=_time(ended["StartTime"]),
                status_reason=f"{INTERRUPTED}: {ended.get('StatusMessage') or 'no reason given'}",
            )
        elif detail["TrainingJobStatus"] in _ENDED:
            yield _last_attempt(detail, words, started_at, told.get("EndTime"))
        else:
            yield JobAttempt(started_at=started_at)


def _preparations(detail: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    since: str | None = None
    for told in detail.get("SecondaryStatusTransitions") or ():
        if told["Status"] in _WITHOUT_CONTAINER:
            since = since or _time(told["StartTime"])
        elif since is not None:
            yield since, _time(told["StartTime"])
            since = None
    if since is not None:
        yield since, _time(_ended_at(detail)) if detail["TrainingJobStatus"] in _ENDED else None


def _last_attempt(
    detail: Mapping[str, Any], words: str | None, started_at: str | None, ended: datetime | None
) -> JobAttempt:
    exit_code = 0 if detail["TrainingJobStatus"] == "Completed" else None
    if detail["TrainingJobStatus"] == "Failed" and (found := _EXIT_CODE.findall(words or "")):
        # SageMaker's own comes last: what the program wrote before it may speak of others.
        exit_code = int(found[-1])
    return JobAttempt(
        started_at=started_at,
        stopped_at=_time(ended or _ended_at(detail)),
        exit_code=exit_code,
        # What a stopped job says is the job's reason: of the container nothing is known.
        status_reason=None if detail["TrainingJobStatus"] == "Stopped" else words,
    )


def _ended_at(detail: Mapping[str, Any]) -> datetime:
    # On a failure TrainingEndTime may be missing; where the job waited after it, for machines again, it is the end of
    # the training before that.
    told: datetime = detail.get("TrainingEndTime") or detail.get("LastModifiedTime") or detail["CreationTime"]
    moves: list[datetime] = [moved["StartTime"] for moved in detail.get("SecondaryStatusTransitions") or ()]
    return max([told, *moves])


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment is not None else None


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _http_status(error: ClientError) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def _refusal(error: ClientError) -> Exception:
    return Throttled(str(error)) if is_throttle(error) else error


def _refusal_to_create(error: ClientError) -> Exception:
    if is_throttle(error):
        return Throttled(str(error))
    code, message = _code(error), error.response["Error"]["Message"]
    if _http_status(error) >= SERVER_ERROR:
        return ReplyLost(message)
    if code in NOT_ALLOWED:
        return NotAllowed(f"{code}: {message}")
    if code == _LIMIT:
        return QuotaReached(f"{message} (a quota of SageMaker: raise it in Service Quotas)")
    return Refused(message if code == _VALIDATION else f"{code}: {message}")
