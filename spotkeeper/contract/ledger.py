"""The ledger's keys and states, and the two conditional writes that an attempt makes itself.

One DynamoDB table, partition key `pk`, sort key `sk`, both strings:

    RUN#<run>        RUN                                the run: its state, version and epoch
    RUN#<run>        ATTEMPT#<submission:04>#<attempt:02>   one container of it
    RUN#<run>        EVENT#<time>#<id>                  append-only history
    INSTANCE#<id>    INTERRUPTION                       AWS announced that it takes this instance back
    SUBMISSIONS#<s>  SLOTS                              how many jobs were submitted in one second, and by whom
    SWEEP#<sweep>    SWEEP                              a sweep: how many members it has, and which parameters they set
    OTHERS#<job id>  JOB                                a job on our queues that is no run of ours
    QUEUE#<queue>    START                              when a job of the queue was last seen to have got a machine
    SWEEPER          POSITION#<listing>                 how far the sweeper has come in a listing

Index `listing` finds runs by `listing` ("open" or "closed") and `created_at` (ISO 8601, UTC), and others' jobs under
"others". It holds keys and nothing else: all open runs share one partition of it, and an index that projected more
would be written at every change of every run. Whoever lists reads the items themselves, a hundred at a time.

The two writes stand here, as request parameters of `UpdateItem`, because the trainer makes them and the
control plane must agree, while neither may import the other.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

PARTITION_KEY: Final = "pk"
SORT_KEY: Final = "sk"
TIME_TO_LIVE: Final = "expires_at"
LISTING_INDEX: Final = "listing"
LISTING_PARTITION_KEY: Final = "listing"
LISTING_SORT_KEY: Final = "created_at"
LISTING_OPEN: Final = "open"
LISTING_CLOSED: Final = "closed"
LISTING_OTHERS: Final = "others"

RUN_SORT_KEY: Final = "RUN"
ATTEMPT_SORT_PREFIX: Final = "ATTEMPT#"
EVENT_SORT_PREFIX: Final = "EVENT#"
INTERRUPTION_SORT_KEY: Final = "INTERRUPTION"
SUBMISSION_SLOTS_SORT_KEY: Final = "SLOTS"
SWEEP_SORT_KEY: Final = "SWEEP"
OTHERS_SORT_KEY: Final = "JOB"
START_SORT_KEY: Final = "START"
SWEEPER_PARTITION: Final = "SWEEPER"


class RunState(StrEnum):
    """States of a run. A run moves forward in (submission, state); the last three states are final."""

    SUBMITTING = "submitting"
    """The intent to submit is recorded; the Batch job may or may not exist yet."""
    SUBMITTED = "submitted"
    """The Batch job is known."""
    RUNNING = "running"
    """An attempt has claimed the run."""
    WAITING = "waiting"
    """There is no job until `wait_until`; it is then decided again."""
    PARKED = "parked"
    """There is no job until a person resumes the run: going on by itself would not help."""
    PAUSED = "paused"
    """There is no job until the user resumes the run."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE_STATES: Final = (RunState.SUBMITTING, RunState.SUBMITTED, RunState.RUNNING)
"""A job exists or is about to; only then may an attempt claim."""
RESTING_STATES: Final = (RunState.WAITING, RunState.PARKED, RunState.PAUSED)
"""No job exists that may claim; a next submission may begin."""
FINAL_STATES: Final = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


def run_partition(run_id: str) -> str:
    """Partition that holds everything about a run."""
    return f"RUN#{run_id}"


def attempt_sort_key(submission: int, attempt: int) -> str:
    """Sort key of an attempt; listing order is the order in which attempts ran."""
    return f"{ATTEMPT_SORT_PREFIX}{submission:04d}#{attempt:02d}"


def instance_partition(instance_id: str) -> str:
    """Partition of what AWS announced about an instance."""
    return f"INSTANCE#{instance_id}"


def second_partition(unix_second: int) -> str:
    """Partition of one second's submission slots."""
    return f"SUBMISSIONS#{unix_second}"


def sweep_partition(sweep: str) -> str:
    """Partition of what is known of a sweep, beside its members, which are runs."""
    return f"SWEEP#{sweep}"


def others_partition(job_id: str) -> str:
    """Partition of a job that is no run of ours."""
    return f"OTHERS#{job_id}"


def queue_partition(queue: str) -> str:
    """Partition of what is known of a job queue, given by its ARN."""
    return f"QUEUE#{queue}"


def position_sort_key(listing: str) -> str:
    """Sort key of how far the sweeper has come in a listing."""
    return f"POSITION#{listing}"


def claim_request(
    *, table: str, run_id: str, submission: int, job_id: str, attempt: int, claimed_at: str
) -> dict[str, Any]:
    """Parameters of the `UpdateItem` by which an attempt takes the run and is given its epoch.

    It succeeds only for the run's current submission, for the job that holds it (or the first to come, when
    the reply to SubmitJob was lost), for an attempt number not below the last that claimed, and only while
    nobody has cancelled or paused the run and no completion is recorded: Batch retries an attempt whose host was lost
    after that. The same attempt may claim again after a lost reply. Refusal is `ConditionalCheckFailedException` with
    the item as it is: with a `completion` in it the run is complete, otherwise exit with EXIT_FENCED. The new item is
    returned; read `epoch` from it.

    Not conditional on a version read: the fence itself is the condition (one of the two named exceptions).
    """
    live = _live_values()
    return {
        "TableName": table,
        "Key": {PARTITION_KEY: {"S": run_partition(run_id)}, SORT_KEY: {"S": RUN_SORT_KEY}},
        "ConditionExpression": (
            "#submission = :submission"
            f" AND #state IN ({', '.join(live)})"
            " AND attribute_not_exists(#cancel)"
            " AND attribute_not_exists(#pause)"
            " AND attribute_not_exists(#completion)"
            " AND (attribute_not_exists(#job) OR #job = :job)"
            " AND (attribute_not_exists(#claimed_job) OR #claimed_job <> :job OR #claimed_attempt <= :attempt)"
        ),
        "UpdateExpression": (
            "SET #job = :job, #claimed_job = :job, #claimed_attempt = :attempt, #claimed_at = :claimed_at,"
            " #state = :running, #epoch = #epoch + :one, #version = #version + :one"
            # It has a machine.
            " REMOVE #waits_since, #waits_why"
        ),
        "ExpressionAttributeNames": {
            "#submission": "submission",
            "#state": "state",
            "#cancel": "cancel_requested_at",
            "#pause": "pause_requested_at",
            "#completion": "completion",
            "#job": "job_id",
            "#claimed_job": "claimed_job_id",
            "#claimed_attempt": "claimed_attempt",
            "#claimed_at": "claimed_at",
            "#epoch": "epoch",
            "#version": "version",
            "#waits_since": "waits_since",
            "#waits_why": "waits_why",
        },
        "ExpressionAttributeValues": {
            ":submission": {"N": str(submission)},
            ":job": {"S": job_id},
            ":attempt": {"N": str(attempt)},
            ":claimed_at": {"S": claimed_at},
            ":running": {"S": RunState.RUNNING.value},
            ":one": {"N": "1"},
            **live,
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def last_claim_request(*, table: str, run_id: str) -> dict[str, Any]:
    """Parameters of the `GetItem` by which an attempt that was told no number learns the last that claimed."""
    return {
        "TableName": table,
        "Key": {PARTITION_KEY: {"S": run_partition(run_id)}, SORT_KEY: {"S": RUN_SORT_KEY}},
        "ProjectionExpression": "claimed_job_id, claimed_attempt",
        "ConsistentRead": True,
    }


def next_attempt(run: Mapping[str, Any], job_id: str) -> int:
    """Return the number of the job's next attempt, given the item that `last_claim_request` brought."""
    if run.get("claimed_job_id", {}).get("S") != job_id:
        return 1
    return int(run["claimed_attempt"]["N"]) + 1


def completion_request(*, table: str, run_id: str, epoch: int, step: int | None, completed_at: str) -> dict[str, Any]:
    """Parameters of the `UpdateItem` by which the attempt of the current epoch records that the run is complete.

    Without this record no exit code makes a run SUCCEEDED. `step` is the last step of a program that uses the
    library, None for any other. An attempt of an older epoch is refused with `ConditionalCheckFailedException`, and so
    is one whose run has ended: a container that goes on after AWS Batch has given its host up must not leave a run
    that reads FAILED with a completion record.
    """
    live = _live_values()
    completion: dict[str, Any] = {"epoch": {"N": str(epoch)}, "completed_at": {"S": completed_at}}
    if step is not None:
        completion["step"] = {"N": str(step)}
    return {
        "TableName": table,
        "Key": {PARTITION_KEY: {"S": run_partition(run_id)}, SORT_KEY: {"S": RUN_SORT_KEY}},
        "ConditionExpression": f"#epoch = :epoch AND #state IN ({', '.join(live)})",
        "UpdateExpression": "SET #completion = :completion, #version = #version + :one",
        "ExpressionAttributeNames": {
            "#epoch": "epoch",
            "#state": "state",
            "#completion": "completion",
            "#version": "version",
        },
        "ExpressionAttributeValues": {
            ":epoch": {"N": str(epoch)},
            ":completion": {"M": completion},
            ":one": {"N": "1"},
            **live,
        },
    }


def _live_values() -> dict[str, dict[str, str]]:
    return {f":live{index}": {"S": state.value} for index, state in enumerate(LIVE_STATES)}


def placement_request(
    *,
    table: str,
    run_id: str,
    submission: int,
    job_id: str,
    attempt: int,
    epoch: int,
    claimed_at: str,
    placement: dict[str, str],
) -> dict[str, Any]:
    """Parameters of the `UpdateItem` by which an attempt that has claimed says where it runs.

    `placement` holds what the metadata service told, of: instance_id, instance_type, availability_zone, market
    ("spot" or "on-demand"). The control plane writes its own fields of the same item; the two never overlap.
    """
    fields: dict[str, dict[str, str]] = {
        "job_id": {"S": job_id},
        "submission": {"N": str(submission)},
        "attempt": {"N": str(attempt)},
        "epoch": {"N": str(epoch)},
        "claimed_at": {"S": claimed_at},
        **{name: {"S": value} for name, value in sorted(placement.items())},
    }
    return {
        "TableName": table,
        "Key": {
            PARTITION_KEY: {"S": run_partition(run_id)},
            SORT_KEY: {"S": attempt_sort_key(submission, attempt)},
        },
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in fields),
        "ExpressionAttributeNames": {f"#{name}": name for name in fields},
        "ExpressionAttributeValues": {f":{name}": value for name, value in fields.items()},
    }
