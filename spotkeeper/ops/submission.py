"""Submit a run: what the command line does, as functions that other programs call too.

plan = prepare(Request(command=("python", "train.py")), connection=connect("dev"), source_directory=Path("."), …)
run = submit(plan, connection=connection, now=…)
"""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.contract.budgets import sweep_holder
from spotkeeper.contract.checkpoint_layout import source_key
from spotkeeper.control import submit as control
from spotkeeper.control.ports import Conflict, NotAllowed, ReplyLost
from spotkeeper.control.run import Run
from spotkeeper.ops import failure, job_definition
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.plan import Plan, Request, needs_definition, plan, profile_of
from spotkeeper.ops.source import PackedSource, pack
from spotkeeper.ops.spending import sweep_warnings
from spotkeeper.ops.sweep_status import submitted_into
from spotkeeper.ops.waiting import PASSING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_WAITS_SECONDS: Final = (1, 2, 4, 8)


def prepare(request: Request, *, connection: Connection, source_directory: Path | None, suffix: str, now: str) -> Plan:
    """Return what will be sent for a request. Reads only: this is the whole of a dry run.

    Raises:
        ValueError: if the request or the source folder breaks a rule.
    """
    descriptor = connection.descriptor
    source = pack(source_directory) if source_directory is not None else None
    base = None
    if needs_definition(request):
        arn = descriptor.profiles[profile_of(request, descriptor)].job_definition
        base = job_definition.describe(connection.batch_client, arn)
    made = plan(request, descriptor=descriptor, base_definition=base, source=source, suffix=suffix, created_at=now)
    if made.run.is_isolated:
        for name, uri in request.data.items():
            _refuse_empty(name, uri, connection.s3)
    if made.run.sweep is not None:
        of_sweep = connection.budgets.get(sweep_holder(made.run.sweep))
        earlier = submitted_into(made.run.sweep, connection) if of_sweep is None else ()
        made = replace(made, warnings=(*made.warnings, *sweep_warnings(made.run, of_sweep, earlier=earlier)))
    registered = made.definition and job_definition.find(connection.batch_client, made.definition)
    return replace(made, run=replace(made.run, job_definition=registered)) if registered else made


def _refuse_empty(name: str, uri: str, s3: "S3Client") -> None:
    """Refuse data of which SageMaker would bring nothing; what may not be listed from here is left to the job."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    try:
        found = s3.list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1)
    except (BotoCoreError, ClientError):
        return
    if not found.get("KeyCount"):
        raise ValueError(
            f"--data {name}={uri}: nothing is below s3://{bucket}/{folder}, and SageMaker fails a job for which it "
            "finds no data: name the folder, not an object in it"
        )


def submit(
    plan: Plan,
    *,
    connection: Connection,
    now: str,
    pause: Callable[[float], object],
    announce: Callable[[str], object] = lambda _: None,
) -> Run:
    """Carry a plan out: upload, register, record, submit. Return the run as the ledger holds it.

    Args:
        plan: What to send.
        connection: To where.
        now: ISO 8601, UTC.
        pause: Waits so many seconds before a repetition; `time.sleep`.
        announce: Told the run's id as soon as it is recorded: whatever happens then, the run can be named.

    Raises:
        OperationError: if AWS did not confirm the job, or does not let the caller submit it; the run is recorded and
            the message says what to do.
        Refused: if Batch rejects the job; the run is closed as FAILED with Batch's words.
    """
    run = replace(plan.run, job_definition=bring(plan, connection))
    connection.ledger.create(run)
    announce(run.run_id)
    try:
        return _submit_recorded(run, connection=connection, now=now, pause=pause)
    except NotAllowed as refusal:
        raise OperationError(f"{not_allowed(f'run {run.run_id}', f'cancel {run.run_id}')} ({refusal})") from refusal
    except (ReplyLost, *PASSING, Conflict, BotoCoreError, ClientError) as error:
        raise OperationError(f"{unconfirmed(run.run_id)} ({failure.sentence(error)})") from error


def bring(plan: Plan, connection: Connection) -> str:
    """Upload the source and register the job definition, where they are not there yet; return the definition's ARN."""
    if plan.source is not None:
        _upload(connection.s3, connection.descriptor.checkpoint_bucket, plan.source)
    if plan.definition is not None:
        return job_definition.register(connection.batch_client, plan.definition)
    return plan.run.job_definition


def not_allowed(what: str, cancel: str) -> str:
    """Return what to tell of what is recorded, and whose job the caller may not submit."""
    return (
        f"{what} is recorded, but your AWS role may not submit its job: the sweeper does so by itself, or give "
        f"it up with `spotkeeper {cancel}`"
    )


def unconfirmed(run_id: str) -> str:
    """Return what to tell of a run that is recorded while its job may or may not exist."""
    return (
        f"run {run_id} is recorded, but AWS did not confirm its job: look with `spotkeeper status {run_id}`, "
        f"or give it up with `spotkeeper cancel {run_id}` and submit again"
    )


def _submit_recorded(run: Run, *, connection: Connection, now: str, pause: Callable[[float], object]) -> Run:
    ports = connection.ports
    try:
        return control.submit(run, ports=ports, now=now)
    except (ReplyLost, *PASSING) as error:
        last: Exception = error
    for seconds in _WAITS_SECONDS:
        pause(seconds)
        try:
            found = control.finish(run.run_id, ports=ports, now=now)
        except (ReplyLost, *PASSING) as error:
            last = error
            continue
        if found.refused_at is None:  # else its name is taken, and whose job that is remains to be seen
            return found
    raise last


def _upload(s3: "S3Client", bucket: str, source: PackedSource) -> None:
    key = source_key(source.sha256)
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
            raise
    else:
        return
    try:
        s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=source.archive,
            IfNoneMatch="*",
            ChecksumSHA256=base64.b64encode(bytes.fromhex(source.sha256)).decode(),
        )
    except ClientError as error:
        # Somebody uploads the very same archive: its name is its content.
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
