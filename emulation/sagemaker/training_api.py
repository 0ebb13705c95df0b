"""SageMaker's training job operations, answered from our own executor in the API's own shapes.

moto completes every job at once. Not emulated, and refused: see `refusals`. Quotas and permissions are not looked at.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from emulation import aws
from emulation.batch.job_logs import LogShipper
from emulation.batch.processes import Reaper
from emulation.clock import Clock
from emulation.ec2 import prices
from emulation.ec2.market import Instance, SpotMarket
from emulation.events.aws_events import EventSender
from emulation.sagemaker.executor import Delays, Executor
from emulation.sagemaker.node import Surroundings
from emulation.sagemaker.refusals import SageMakerRefusal, check_request
from emulation.sagemaker.training_jobs import Period, TrainingJob

OPERATIONS: Final = ("CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs", "StopTrainingJob")
TAG_OPERATIONS: Final = ("AddTags", "ListTags", "DeleteTags")
"""Ours where they name a training job."""
_NOT_FOUND: Final = "Requested resource not found."
_PAGE: Final = 10
_SUMMARY: Final = (
    "TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime", "TrainingJobStatus",
    "SecondaryStatus",
)  # fmt: skip

_Response = dict[str, Any]


class Place(Protocol):
    """Where jobs run."""

    @property
    def account(self) -> str:
        """AWS account."""

    @property
    def region(self) -> str:
        """AWS region."""


class TrainingService:
    """SageMaker training for one account, from construction until `stop`.

    Args:
        place: Account and region.
        zones: Availability zones that have capacity for training.
        market: Where instances come from.
        clock: The market's clock.
        publish: Takes each event, in order, on a thread of its own.
        endpoint_url: AWS endpoint, for jobs and for what SageMaker itself reads and writes in S3.
        work_dir: Where nodes live: `<job>/<period>/<node>/output.log` stays.
        entrypoint: The image's ENTRYPOINT, for jobs without one of their own.
        host_environment: Variables that every container gets on top of SageMaker's.
        delays: How long SageMaker takes.
        seed: Decides event ids, and what the mirror does.
    """

    def __init__(
        self,
        *,
        place: Place,
        zones: Sequence[str],
        market: SpotMarket,
        clock: Clock,
        publish: Callable[[dict[str, Any]], None],
        endpoint_url: str,
        work_dir: Path,
        entrypoint: Sequence[str] = (),
        host_environment: Mapping[str, str] | None = None,
        delays: Delays | None = None,
        seed: int = 0,
    ) -> None:
        self._place = place
        self._clock = clock
        self._model = aws.service_model("sagemaker")
        session = aws.session(place.region)
        config = Config(proxies={}, retries={"total_max_attempts": 2}, max_pool_connections=20)
        s3 = session.client("s3", endpoint_url=endpoint_url, config=config)
        untyped: Any = session
        self._iam = untyped.client("iam", endpoint_url=endpoint_url, config=config)
        emulation_id = secrets.token_hex(8)
        self._reaper = Reaper(emulation_id)
        self._events = EventSender(
            publish,
            clock=clock,
            random=Random(f"training events {seed}"),  # noqa: S311  not for secrets
            account=place.account,
            region=place.region,
        )
        self._shipper = LogShipper(session.client("logs", endpoint_url=endpoint_url, config=config))
        self._executor = Executor(
            market=market,
            zones=zones,
            clock=clock,
            changed=self._send,
            work_dir=work_dir,
            emulation_id=emulation_id,
            surroundings=Surroundings(
                region=place.region,
                endpoint_url=endpoint_url,
                entrypoint=tuple(entrypoint),
                host_environment=dict(host_environment or {}),
                s3=s3,
                shipper=self._shipper,
            ),
            delays=delays or Delays(),
            seed=seed,
        )
        self._jobs: dict[str, TrainingJob] = {}
        self._listeners: list[Callable[[TrainingJob], None]] = []

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What went wrong inside the emulation. A run that leaves any has proved nothing."""
        return (*self._executor.failures, *self._events.failures, *self._shipper.failures)

    def handle(self, operation: str, request: dict[str, Any]) -> _Response:
        """Answer an operation of `OPERATIONS` or, of a training job, of `TAG_OPERATIONS`.

        Raises:
            SageMakerRefusal: what AWS would refuse, and what the emulation does not do.
        """
        shape: Any = self._model.operation_model(operation).input_shape
        report = ParamValidator().validate(_with_times(request), shape)
        if report.has_errors():
            raise SageMakerRefusal(report.generate_report())
        answers: dict[str, Callable[[dict[str, Any]], _Response]] = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": lambda asked: self._describe(self._find(asked["TrainingJobName"])),
            "ListTrainingJobs": self._list,
            "StopTrainingJob": self._stop,
            "AddTags": self._add_tags,
            "ListTags": lambda asked: {"Tags": _tag_list(self._of_arn(asked["ResourceArn"]).tags)},
            "DeleteTags": self._delete_tags,
        }
        return answers[operation](request)

    # What tests and the demo ask and do.

    def has(self, name: str) -> bool:
        """Tell whether there is a job of this name."""
        with self._executor.lock:
            return name in self._jobs

    def job(self, name: str) -> dict[str, Any]:
        """Return what is known of a job, with times as `datetime`."""
        with self._executor.lock:
            return self._find(name).describe()

    def periods(self, name: str) -> tuple[Period, ...]:
        """Return each time that the job had instances."""
        with self._executor.lock:
            return tuple(self._find(name).periods)

    def instances(self, name: str) -> tuple[Instance, ...]:
        """Return the instances that the job was given last."""
        return self.periods(name)[-1].instances

    def output(self, name: str, *, node: int = 1) -> str:
        """Return what all containers of a node have written so far, one after the other."""
        logs = [period.log_paths[node - 1] for period in self.periods(name)]
        return "".join(log.read_text() for log in logs if log.exists())

    def wait(self, name: str, *statuses: str, timeout_seconds: float = 90.0) -> dict[str, Any]:
        """Wait until the job's secondary status is one of these; without any, until it has ended.

        Raises:
            TimeoutError: if it does not get there in time, naming where it is.
        """
        job = self._find(name)
        self._executor.wait(
            job, lambda job: job.secondary_status in statuses if statuses else job.is_finished, timeout_seconds
        )
        return self.job(name)

    def end_wait(self, name: str) -> None:
        """Let a spot job's MaxWaitTimeInSeconds be used up now.

        At a speed that shortens days to seconds, the program would have no time to train within its own limit.

        Raises:
            ValueError: if it is no spot job.
        """
        job = self._find(name)
        if not job.is_spot:
            raise ValueError(f"training job {name} is not on spot and has no MaxWaitTimeInSeconds: stop it instead")
        self._executor.end_wait(job)

    def on_change(self, callback: Callable[[TrainingJob], None]) -> None:
        """Call `callback` with a job at every change of its secondary status, in order, on the job's thread."""
        self._listeners.append(callback)

    def stop_mirrors(self) -> None:
        """Mirror no checkpoint folder any more, as has been seen in AWS: training goes on, and nobody is told."""
        self._executor.mirrors_are_stopped.set()

    def resume_mirrors(self) -> None:
        """Mirror checkpoint folders again."""
        self._executor.mirrors_are_stopped.clear()

    def stop(self) -> None:
        """End every job's processes, send the events that are left, and end."""
        self._executor.stop()
        self._shipper.stop()
        self._events.stop()
        self._reaper.stop()

    # Operations.

    def _create(self, request: dict[str, Any]) -> _Response:
        if "AlgorithmSpecification" not in request or "ResourceConfig" not in request:
            raise SageMakerRefusal("AlgorithmSpecification and ResourceConfig are needed: nothing else is emulated")
        check_request(request, region=self._place.region)
        self._check_role(request["RoleArn"])
        name = request["TrainingJobName"]
        arn = f"arn:aws:sagemaker:{self._place.region}:{self._place.account}:training-job/{name}"
        job = TrainingJob(
            name=name,
            arn=arn,
            request=deepcopy(request),
            created_at=self._clock.now(),
            tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", ())},
        )
        for instance_type in job.instance_types:
            try:
                prices.instance_type(instance_type)
            except ValueError as error:
                raise SageMakerRefusal(f"InstanceType {instance_type!r}: {error}") from error
        with self._executor.lock:
            if name in self._jobs:
                raise SageMakerRefusal(
                    "Training job names must be unique within an AWS account and region, and a training job with this "
                    f"name already exists ({arn})",
                    code="ResourceInUse",
                )
            self._jobs[name] = job
        self._executor.run(job)
        return {"TrainingJobArn": arn}

    def _check_role(self, arn: str) -> None:
        try:
            role = self._iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError:
            role = {}
        if "sagemaker.amazonaws.com" not in str(role.get("AssumeRolePolicyDocument")):
            raise SageMakerRefusal(
                f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role."
            )

    def _describe(self, job: TrainingJob) -> Any:
        with self._executor.lock:
            return _as_json(job.describe(), lambda at: at.timestamp())

    def _list(self, request: dict[str, Any]) -> _Response:
        with self._executor.lock:
            found = [
                job.describe()
                for job in self._jobs.values()
                if request.get("NameContains", "") in job.name
                and request.get("StatusEquals", job.status) == job.status
                and request.get("CreationTimeAfter", 0) <= job.created_at.timestamp()
                and job.created_at.timestamp() <= request.get("CreationTimeBefore", float("inf"))
            ]
        by = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(request.get("SortBy", ""), "CreationTime")
        found.sort(key=lambda job: (job[by], job["TrainingJobName"]))
        if request.get("SortOrder", "Descending") == "Descending":
            found.reverse()
        start = int(request.get("NextToken") or 0)
        end = start + request.get("MaxResults", _PAGE)
        page = [{name: job[name] for name in _SUMMARY if name in job} for job in found[start:end]]
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"TrainingJobSummaries": _as_json(page, lambda at: at.timestamp()), **more}

    def _stop(self, request: dict[str, Any]) -> _Response:
        job = self._find(request["TrainingJobName"])
        with self._executor.lock:
            if job.is_finished:
                raise SageMakerRefusal(f"The request was rejected because the training job is in status {job.status}.")
        self._executor.request_stop(job)
        return {}

    def _add_tags(self, request: dict[str, Any]) -> _Response:
        job = self._of_arn(request["ResourceArn"])
        job.tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        return {"Tags": _tag_list(job.tags)}

    def _delete_tags(self, request: dict[str, Any]) -> _Response:
        job = self._of_arn(request["ResourceArn"])
        job.tags = {key: value for key, value in job.tags.items() if key not in request["TagKeys"]}
        return {}

    def _find(self, name: str) -> TrainingJob:
        with self._executor.lock:
            if name not in self._jobs:
                raise SageMakerRefusal(_NOT_FOUND)
            return self._jobs[name]

    def _of_arn(self, arn: str) -> TrainingJob:
        return self._find(arn.rpartition("/")[2])

    def _send(self, job: TrainingJob) -> None:
        detail = _as_json(job.describe(), lambda at: int(at.timestamp() * 1000))
        self._events.training_job_state_changed({**detail, "Tags": dict(job.tags)})
        for listener in self._listeners:
            listener(job)


def _as_json(value: Any, write_time: Callable[[datetime], float]) -> Any:
    if isinstance(value, datetime):
        return write_time(value)
    if isinstance(value, dict):
        return {name: _as_json(each, write_time) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each, write_time) for each in value]
    return value


def _with_times(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request with times as the validator wants them; JSON has them as numbers."""
    return {
        name: datetime.fromtimestamp(value).astimezone() if "Time" in name and isinstance(value, int | float) else value
        for name, value in request.items()
    }


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
