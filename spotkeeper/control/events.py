"""From the EventBridge events that rules deliver to small values; what we do not know is Ignored, with a reason.

Anyone who may send to a queue may send any body, so nothing here is believed: an event is a hint to read again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from spotkeeper.contract import events
from spotkeeper.contract.training import job_of_arn

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}(:[0-9]{1,5})?")
_BLOCKED_REASON = re.compile(r"[A-Z_]{1,32}(:[A-Z_]{1,64})?(?= |$)")
_EVENT_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceNotice:
    """EC2 announced something about an instance."""

    at: str
    instance_id: str
    is_warning: bool
    """True: it goes in two minutes. False: its risk is raised."""
    action: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobChanged:
    """A job changed its state; which way is to be asked of AWS Batch or SageMaker, as its id tells."""

    at: str
    job_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueBlocked:
    """The job at the head of a queue cannot be placed."""

    at: str
    event_id: str
    job_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepDue:
    """The schedule says that it is time to look after all runs."""

    at: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that asks nothing of us."""

    reason: str


Event = InstanceNotice | JobChanged | QueueBlocked | SweepDue | Ignored


class _UnusableError(Exception):
    """A field is missing or has a form that AWS never sends."""


def parse(raw: Mapping[str, Any], *, account: str, region: str) -> Event:
    """Return what an EventBridge event says. Only events of this account and region count."""
    kind = (raw.get("source"), raw.get("detail-type"))
    parser = _PARSERS.get(kind) if all(isinstance(part, str) for part in kind) else None
    if parser is None:
        return Ignored(f"no handler for {_short(kind[1])} of {_short(kind[0])}")
    home = (raw.get("account"), raw.get("region"))
    if home != (account, region):
        return Ignored(f"event of account {_short(home[0])}, region {_short(home[1])}; ours is {account}, {region}")
    try:
        return parser(raw, _mapping(raw, "detail"))
    except _UnusableError as unusable:
        return Ignored(str(unusable))


def _interruption_warning(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> InstanceNotice:
    """Parse what EC2 sends two minutes before it takes a spot instance back, when it can.

    {"version": "0", "id": "1e5527d7-bb36-4607-3370-4164db56a40e", "source": "aws.ec2",
     "detail-type": "EC2 Spot Instance Interruption Warning", "account": "123456789012",
     "time": "1970-01-01T00:00:00Z", "region": "us-east-1",
     "resources": ["arn:aws:ec2:us-east-1b:123456789012:instance/i-0b662ef9931388ba0"],  <- a zone, not a region
     "detail": {"instance-id": "i-0b662ef9931388ba0", "instance-action": "terminate"}}
    """
    return InstanceNotice(
        at=_time(raw),
        instance_id=_matching(detail, "instance-id", _INSTANCE_ID),
        is_warning=True,
        action=_matching(detail, "instance-action", re.compile("terminate|stop|hibernate")),
    )


def _rebalance_recommendation(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> InstanceNotice:
    """Parse what EC2 sends when the risk of an instance is raised.

    {..., "source": "aws.ec2", "detail-type": "EC2 Instance Rebalance Recommendation",
     "resources": ["arn:aws:ec2:us-east-2:123456789012:instance/i-1234567890abcdef0"],
     "detail": {"instance-id": "i-1234567890abcdef0"}}
    """
    return InstanceNotice(at=_time(raw), instance_id=_matching(detail, "instance-id", _INSTANCE_ID), is_warning=False)


def _job_changed(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> JobChanged:
    """Parse what Batch sends at every change of state, but not at the submission.

    {..., "source": "aws.batch", "detail-type": "Batch Job State Change",
     "resources": ["arn:aws:batch:us-east-1:123456789012:job/4c7599ae-0a82-49aa-ba5a-4727fcce14a8"],
     "detail": {"jobArn": "arn:…", "jobName": "digits-7fq2-1", "jobId": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
                "jobQueue": "arn:…", "status": "RUNNABLE", "attempts": [], "createdAt": 1641944200058, …}}
    """
    return JobChanged(at=_time(raw), job_id=_matching(detail, "jobId", _JOB_ID))


def _training_job_changed(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> JobChanged:
    """Parse what SageMaker sends at every change of a training job's state; `detail` is as DescribeTrainingJob.

    {..., "source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change",
     "resources": ["arn:aws:sagemaker:us-east-1:123456789012:training-job/dev-digits-7fq2-1"],
     "detail": {"TrainingJobName": "dev-digits-7fq2-1", "TrainingJobArn": "arn:…", "TrainingJobStatus": "InProgress",
                "SecondaryStatus": "Interrupted", …}}
    """
    arn = detail.get("TrainingJobArn")
    if not isinstance(arn, str) or job_of_arn(arn) is None:
        raise _UnusableError(f"TrainingJobArn has an unknown form: {_short(arn)}")
    return JobChanged(at=_time(raw), job_id=arn)


def _queue_blocked(raw: Mapping[str, Any], detail: Mapping[str, Any]) -> QueueBlocked:
    """Parse what Batch sends when the job at the head of a queue waits too long.

    {..., "source": "aws.batch", "detail-type": "Batch Job Queue Blocked",
     "resources": ["arn:aws:batch:…:job/4c7599ae-…", "arn:aws:batch:…:job-queue/Q"],
     "detail": {"jobId": "4c7599ae-…", "jobQueue": "arn:…", "status": "RUNNABLE",
                "statusReason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill …", …}}
    """
    # Only the code: the rest is anybody's words, and would stand in the history of a run.
    code = _BLOCKED_REASON.match(str(detail.get("statusReason")))
    return QueueBlocked(
        at=_time(raw),
        event_id=_matching(raw, "id", _EVENT_ID),
        job_id=_matching(detail, "jobId", _JOB_ID),
        reason=code[0] if code else "no reason given",
    )


def _sweep_due(raw: Mapping[str, Any], _: Mapping[str, Any]) -> SweepDue:
    """Parse what a rule with a schedule sends.

    {..., "source": "aws.events", "detail-type": "Scheduled Event",
     "resources": ["arn:aws:events:us-east-1:123456789012:rule/sweep"], "detail": {}}
    """
    return SweepDue(at=_time(raw))


_PARSERS: Final[Mapping[object, Callable[[Mapping[str, Any], Mapping[str, Any]], Event]]] = MappingProxyType(
    {
        (events.EC2_SOURCE, events.SPOT_INTERRUPTION_WARNING): _interruption_warning,
        (events.EC2_SOURCE, events.REBALANCE_RECOMMENDATION): _rebalance_recommendation,
        (events.BATCH_SOURCE, events.JOB_STATE_CHANGE): _job_changed,
        (events.BATCH_SOURCE, events.JOB_QUEUE_BLOCKED): _queue_blocked,
        (events.SAGEMAKER_SOURCE, events.TRAINING_JOB_STATE_CHANGE): _training_job_changed,
        (events.SCHEDULE_SOURCE, events.SCHEDULED_EVENT): _sweep_due,
    }
)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    if not isinstance(value, dict):
        raise _UnusableError(f"{name} is not an object: {_short(value)}")
    return value


def _matching(raw: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _UnusableError(f"{name} has an unknown form: {_short(value)}")
    return value


def _time(raw: Mapping[str, Any]) -> str:
    value = raw.get("time")
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise _UnusableError(f"time is not ISO 8601 with a zone: {_short(value)}")
    return at.isoformat()
