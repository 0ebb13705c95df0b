"""AWS Batch's job operations, answered from our own executor in the API's own shapes.

Not emulated, and refused: dependencies, several nodes, EKS and `ecsProperties`. A job without an instance
waits in the order of its queue; an instance runs one job (see executor).
"""

import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from botocore.config import Config
from botocore.validate import ParamValidator

from emulation import aws
from emulation.batch import array_jobs, container
from emulation.batch.executor import Delays, Executor
from emulation.batch.job_logs import LogShipper
from emulation.batch.jobs import Attempt, Job
from emulation.batch.launcher import Launcher
from emulation.batch.processes import Reaper
from emulation.batch.refusals import ClientException as ClientException
from emulation.batch.refusals import (
    check_environment,
    check_limits,
    check_name,
    check_priority,
    check_resources,
    check_retry_strategy,
    check_share,
    check_size,
    refusal,
    too_many_tags,
)
from emulation.clock import Clock
from emulation.ec2 import prices
from emulation.ec2.market import SpotMarket
from emulation.events.aws_events import EventSender
from emulation.templates.deployment import Deployment, JobDefinition, JobQueue

_NOT_EMULATED: Final = {
    "dependsOn": "dependencies",
    "nodeOverrides": "multi-node jobs",
    "eksPropertiesOverride": "EKS jobs",
    "ecsPropertiesOverride": "ecsProperties",
    "consumableResourcePropertiesOverride": "consumable resources",
}
_MOST_IDS: Final = 100
_CONTAINER_FIELDS: Final = frozenset({
    "image", "vcpus", "memory", "command", "jobRoleArn", "executionRoleArn", "volumes", "environment", "mountPoints",
    "readonlyRootFilesystem", "privileged", "ulimits", "user", "instanceType", "resourceRequirements",
    "linuxParameters", "logConfiguration", "secrets", "networkConfiguration", "fargatePlatformConfiguration",
    "enableExecuteCommand", "ephemeralStorage", "runtimePlatform", "repositoryCredentials",
})  # fmt: skip
"""What a job definition's container properties and DescribeJobs' container have in common."""

_Response = dict[str, Any]


class BatchService:
    """AWS Batch for one deployment, from construction until `stop`.

    Args:
        deployment: Queues, compute environments and job definitions. Definitions registered later are found at
            `endpoint_url`.
        market: Where instances come from. One service listens to it.
        clock: The market's clock.
        publish: Takes each event that Batch and EC2 send, in order, on a thread of its own.
        endpoint_url: AWS endpoint for jobs, their logs and secrets; empty for none.
        work_dir: Where attempts live: `<job id>/<attempt>/output.log` stays.
        entrypoint: What the image's ENTRYPOINT puts before a job's command.
        host_environment: Variables that every job gets on top of AWS's.
        delays: How long AWS takes to boot an instance, to pull an image, to kill after SIGTERM.
        seed: Decides job ids, ARNs and event ids.

    Raises:
        ValueError: if the price table lacks an instance type of a compute environment.
    """

    def __init__(
        self,
        *,
        deployment: Deployment,
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
        for environment in deployment.compute_environments.values():
            prices.expand(environment.instance_types)  # refuse before anything has started
        self._deployment = deployment
        self._clock = clock
        self._random = Random(f"jobs {seed}")  # noqa: S311  not for secrets
        self._lock = threading.Lock()
        self._submitted = 0
        self._model = aws.service_model("batch")
        # Clients are made here, as making them is not safe in several threads at once.
        session = aws.session(deployment.region)

        def client(service: Any) -> Any:
            config = Config(proxies={}, retries={"total_max_attempts": 2})
            return session.client(service, endpoint_url=endpoint_url, config=config)

        self._batch = client("batch") if endpoint_url else None
        read_secret = container.secret_reader(client("secretsmanager"), client("ssm")) if endpoint_url else str
        self._shipper = LogShipper(client("logs")) if endpoint_url else None
        emulation_id = secrets.token_hex(8)  # names processes: must differ between emulations of the same seed
        self._reaper = Reaper(emulation_id)
        self._launcher = Launcher(
            clock=clock,
            emulation_id=emulation_id,
            work_dir=work_dir,
            region=deployment.region,
            endpoint_url=endpoint_url,
            entrypoint=entrypoint,
            host_environment=host_environment or {},
            read_secret=read_secret,
            shipper=self._shipper,
        )
        self._events = EventSender(
            publish,
            clock=clock,
            random=Random(f"events {seed}"),  # noqa: S311  not for secrets
            account=deployment.account,
            region=deployment.region,
        )
        self._executor = Executor(
            deployment=deployment,
            market=market,
            clock=clock,
            events=self._events,
            launcher=self._launcher,
            delays=delays or Delays(),
            seed=seed,
        )

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What went wrong inside the emulation. A run that leaves any has proved nothing."""
        shipping = self._shipper.failures if self._shipper else []
        return (*self._executor.failures, *self._events.failures, *self._launcher.failures, *shipping,
                *self._clock.failures)  # fmt: skip

    def handle(self, operation: str, request: dict[str, Any]) -> _Response:
        """Answer an operation.

        Args:
            operation: `SubmitJob`, `DescribeJobs`, `ListJobs`, `CancelJob`, `TerminateJob` or `GetJobQueueSnapshot`.
            request: The request's JSON body.

        Raises:
            ClientException: what AWS would refuse, and what the emulation does not do.
        """
        answers: dict[str, Callable[[dict[str, Any]], _Response]] = {
            "SubmitJob": self._submit_job,
            "DescribeJobs": self._describe_jobs,
            "ListJobs": self._list_jobs,
            "CancelJob": self._cancel_job,
            "TerminateJob": self._terminate_job,
            "GetJobQueueSnapshot": self._get_job_queue_snapshot,
        }
        if operation not in answers:
            raise ClientException(f"the emulation answers {', '.join(answers)}, not {operation}")
        shape: Any = self._model.operation_model(operation).input_shape
        report = ParamValidator().validate(request, shape)
        if report.has_errors():
            raise refusal(report.generate_report())
        return answers[operation](request)

    def wait(self, job_id: str, states: Iterable[str], timeout_seconds: float) -> dict[str, Any]:
        """Return a job's JobDetail once it is in one of `states`, such as `{"SUCCEEDED", "FAILED"}`.

        Raises:
            TimeoutError: if it does not get there in time, naming where it is.
            KeyError: if there is no such job.
        """
        return self._executor.wait(job_id, states, timeout_seconds)

    def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """Return a job's attempts so far, the current one included: where each ran, when, and how it ended.

        Raises:
            KeyError: if there is no such job.
        """
        found: tuple[Attempt, ...] = self._executor.read(lambda jobs: tuple(jobs[job_id].attempts))
        return found

    def cut_off(self, instance_id: str) -> None:
        """Give a host up for lost that goes on: its container runs to its own end, of which Batch never hears.

        Raises:
            ValueError: if no container runs there.
        """
        self._executor.cut_off(instance_id)

    def on_change(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with a job's JobDetail at every change of state, in order, on the event thread."""
        self._executor.observe(callback)

    def stop(self) -> None:
        """End every job's processes, send the output and events that are left, and end."""
        self._executor.stop()
        if self._shipper is not None:
            self._shipper.stop()
        self._events.stop()
        self._reaper.stop()

    # SubmitJob

    def _submit_job(self, request: dict[str, Any]) -> _Response:
        for field, what in _NOT_EMULATED.items():
            if request.get(field):
                raise ClientException(f"{field}: the emulation does not do {what} yet")
        check_size(request)
        check_name(request["jobName"])
        queue = self._queue(request["jobQueue"])
        if not queue.enabled:
            raise refusal(f"Cannot submit job to job queue {queue.name} in state DISABLED.")
        check_share(queue, request.get("shareIdentifier"))
        definition = self._definition(request["jobDefinition"])
        size = array_jobs.size_of(request)
        job = self._make_job(request, queue, definition, num_children=size or 0)
        if size is not None:
            job.children = array_jobs.children_of(job, size)
        self._executor.submit(job)
        return {"jobArn": job.arn, "jobName": job.name, "jobId": job.id}

    def _make_job(
        self, request: dict[str, Any], queue: JobQueue, definition: JobDefinition, *, num_children: int
    ) -> Job:
        properties = definition.properties
        if not properties.get("containerProperties"):
            raise ClientException(f"{definition.arn}: the emulation runs definitions with containerProperties only")
        overrides = request.get("containerOverrides") or {}
        retry_strategy = request.get("retryStrategy") or properties.get("retryStrategy") or {}
        timeout = (request.get("timeout") or properties.get("timeout") or {}).get("attemptDurationSeconds")
        check_environment(overrides.get("environment") or ())
        check_retry_strategy(retry_strategy)
        tags = dict(request.get("tags") or {})
        check_limits(timeout, tags)
        priority, override = properties.get("schedulingPriority"), request.get("schedulingPriorityOverride")
        check_priority(queue, of_definition=priority, override=override)
        merged = container.override(properties["containerProperties"], overrides)
        check_resources(merged)
        propagate_tags = bool(request.get("propagateTags", properties.get("propagateTags", False)))
        with self._lock:
            job_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            sequence = self._submitted = self._submitted + 1
            self._submitted += num_children
        return Job(
            id=job_id,
            arn=f"arn:aws:batch:{self._deployment.region}:{self._deployment.account}:job/{job_id}",
            name=request["jobName"],
            sequence=sequence,
            queue=queue,
            definition_arn=definition.arn,
            container={name: value for name, value in merged.items() if name in _CONTAINER_FIELDS},
            parameters=dict(properties.get("parameters") or {}) | dict(request.get("parameters") or {}),
            attempts_allowed=int(retry_strategy.get("attempts", 1)),
            evaluate_on_exit=[dict(rule) for rule in retry_strategy.get("evaluateOnExit") or ()],
            timeout_seconds=timeout,
            share_identifier=request.get("shareIdentifier"),
            scheduling_priority=int((priority if override is None else override) or 0),
            propagate_tags=propagate_tags,
            platform_capabilities=list(properties.get("platformCapabilities") or ["EC2"]),
            tags=tags,
            defect=too_many_tags(tags, properties.get("tags") or {}) if propagate_tags else None,
            created_at_ms=self._clock.now_ms(),
        )

    def _queue(self, reference: str) -> JobQueue:
        for queue in self._deployment.job_queues.values():
            if reference in {queue.arn, queue.name}:
                return queue
        raise refusal(f"Job Queue {reference} does not exist.")

    def _definition(self, reference: str) -> JobDefinition:
        """Find a definition by ARN or by name, with or without its revision; without: the newest active one."""
        name, _, revision = reference.rpartition("job-definition/")[2].partition(":")
        found = {
            definition.revision: definition
            for definition in self._deployment.job_definitions.values()
            if definition.name == name
        }
        if self._batch is not None and (not revision or int(revision) not in found):
            pages = self._batch.get_paginator("describe_job_definitions").paginate(jobDefinitionName=name)
            for page in pages:
                for item in page["jobDefinitions"]:
                    if item.get("status") == "ACTIVE":
                        found.setdefault(
                            item["revision"],
                            JobDefinition(
                                arn=item["jobDefinitionArn"], name=name, revision=item["revision"], properties=item
                            ),
                        )
        wanted = int(revision) if revision.isdecimal() else max(found, default=0)
        if wanted not in found:
            raise refusal(f"JobDefinition {reference} does not exist or is not ACTIVE.")
        return found[wanted]

    # The other operations

    def _describe_jobs(self, request: dict[str, Any]) -> _Response:
        ids = [reference.rpartition("/")[2] for reference in request["jobs"]]
        if len(ids) > _MOST_IDS:
            raise refusal(f"DescribeJobs takes up to {_MOST_IDS} job ids; got {len(ids)}.")

        def look(jobs: dict[str, Job]) -> list[dict[str, Any]]:
            return [jobs[job_id].describe() for job_id in dict.fromkeys(ids) if job_id in jobs]

        return {"jobs": self._executor.read(look)}

    def _list_jobs(self, request: dict[str, Any]) -> _Response:
        belongs = self._listed(request)
        filters = request.get("filters") or []
        if len(filters) > 1:
            raise refusal("ListJobs takes one filter at a time.")
        name, values = (filters[0].get("name", ""), filters[0].get("values", [])) if filters else ("", [])
        selects = _selector(name, values)
        status: str | None = request.get("jobStatus", "RUNNING" if not name or name == "SHARE_IDENTIFIER" else None)
        if name not in {"", "SHARE_IDENTIFIER"}:
            status = None  # AWS ignores it beside a filter

        def look(jobs: dict[str, Job]) -> list[dict[str, Any]]:
            newest_first = sorted(jobs.values(), key=lambda job: -job.sequence)
            return [
                job.summarize()
                for job in newest_first
                if belongs(job) and status in {None, job.status.value} and selects(job)
            ]

        start = int(request.get("nextToken") or 0)
        stop = start + min(int(request.get("maxResults") or _MOST_IDS), 1000)
        summaries = self._executor.read(look)
        page: _Response = {"jobSummaryList": summaries[start:stop]}
        if stop < len(summaries):
            page["nextToken"] = str(stop)
        return page

    def _listed(self, request: dict[str, Any]) -> Callable[[Job], bool]:
        """Return whether a job belongs to what ListJobs lists: the jobs of a queue, or the children of an array."""
        array_id: str = (request.get("arrayJobId") or "").rpartition("/")[2]
        if array_id and request.get("jobQueue"):
            raise refusal("ListJobs takes one of jobQueue, arrayJobId and multiNodeJobId.")
        if array_id:
            return lambda job: job.id.startswith(f"{array_id}:")
        if not request.get("jobQueue"):
            raise ClientException("ListJobs needs jobQueue or arrayJobId here: the emulation has no multi-node jobs")
        queue = self._queue(request["jobQueue"])
        return lambda job: job.queue is queue and job.array_index is None

    def _cancel_job(self, request: dict[str, Any]) -> _Response:
        self._executor.cancel(request["jobId"].rpartition("/")[2], request["reason"])
        return {}

    def _terminate_job(self, request: dict[str, Any]) -> _Response:
        self._executor.terminate(request["jobId"].rpartition("/")[2], request["reason"])
        return {}

    def _get_job_queue_snapshot(self, request: dict[str, Any]) -> _Response:
        queue = self._queue(request["jobQueue"])
        now_ms = self._clock.now_ms()
        front = [
            {"jobArn": job.arn, "earliestTimeAtPosition": job.head_since_ms or job.created_at_ms}
            for job in self._executor.waiting(queue)[:_MOST_IDS]
        ]
        vcpus = self._executor.used_vcpus(queue.compute_environments)
        return {
            "frontOfQueue": {"jobs": front, "lastUpdatedAt": now_ms},
            "queueUtilization": {
                "totalCapacityUsage": [{"capacityUnit": "VCPU", "quantity": float(vcpus)}],
                "lastUpdatedAt": now_ms,
            },
        }


def _selector(name: str, values: Sequence[str]) -> Callable[[Job], bool]:
    """Return whether a ListJobs filter selects a job."""

    def matches(text: str | None) -> bool:
        lower = (text or "").lower()
        return any(
            lower.startswith(value[:-1].lower()) if value.endswith("*") else lower == value.lower() for value in values
        )

    selectors: dict[str, Callable[[Job], bool]] = {
        "": lambda job: True,  # noqa: ARG005
        "JOB_NAME": lambda job: matches(job.name),
        "JOB_DEFINITION": lambda job: (
            matches(job.definition_arn) or matches(job.definition_arn.rpartition("/")[2].partition(":")[0])
        ),
        "SHARE_IDENTIFIER": lambda job: matches(job.share_identifier),
        "BEFORE_CREATED_AT": lambda job: job.created_at_ms < int(values[0]),
        "AFTER_CREATED_AT": lambda job: job.created_at_ms > int(values[0]),
    }
    if name not in selectors or (name and not values):
        raise refusal(
            f"ListJobs filters by {', '.join(filter(None, selectors))}, with a value; got {name!r}, {values}."
        )
    return selectors[name]
