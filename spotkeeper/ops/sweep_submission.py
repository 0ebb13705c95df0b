"""Submit a sweep: what the command does, as a function. Whatever cuts it off, the same command goes on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.contract.names import array_job_name
from spotkeeper.control import array
from spotkeeper.control.aws.sweeps import PER_CALL
from spotkeeper.control.ports import Conflict, NotAllowed, ReplyLost, Throttled
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.ops import failure
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.submission import bring, not_allowed
from spotkeeper.ops.sweep_plan import SweepPlan

_WAITS_SECONDS: Final = (1, 2, 4, 8)


def submit(
    plan: SweepPlan,
    *,
    connection: Connection,
    now: str,
    pause: Callable[[float], object],
    progress: Callable[[int], object] = lambda _: None,
) -> str | None:
    """Carry a plan out: upload, register, record the members, submit their array. Return the array's job id.

    None: no member waits for one; all have jobs, or no budget allows them, and each says so. Or it is too late for an
    array, and the members go on by themselves.

    Args:
        plan: What to send.
        connection: To where.
        now: ISO 8601, UTC.
        pause: Waits so many seconds before a repetition; `time.sleep`.
        progress: Told how many members are recorded.

    Raises:
        OperationError: if there is another sweep of this name, or AWS did not confirm the array.
        Refused: if Batch rejects the array; the members are closed as FAILED with Batch's words.
    """
    definition = bring(plan.base, connection)
    record = connection.sweeps.create(plan.record)
    if record.digest != plan.record.digest:
        raise OperationError(
            f"there is a sweep {record.name!r} already, of {record.created_at}, with another program, other options or "
            "other parameters: choose another name"
        )
    try:
        for start in range(0, len(plan.members), PER_CALL):
            part = [replace(run, job_definition=definition) for run in plan.members[start : start + PER_CALL]]
            connection.sweeps.create_members(part)
            progress(start + len(part))
        return _send(record, connection, now, pause)
    except Conflict as error:
        raise OperationError(
            f"sweep {record.name}: {str(error) or 'somebody else submits it at this moment'}"
        ) from error
    except NotAllowed as refusal:
        raise OperationError(
            f"{not_allowed(f'sweep {record.name}', f'sweep cancel {record.name}')} ({refusal})"
        ) from refusal
    except (ReplyLost, Throttled, BotoCoreError, ClientError) as error:
        raise OperationError(f"{unconfirmed(record.name)} ({failure.sentence(error)})") from error


def unconfirmed(name: str) -> str:
    """Return what to tell of a sweep whose array job may or may not exist."""
    return (
        f"sweep {name} is recorded, but AWS did not confirm its array job {array_job_name(name)}: the same command "
        f"goes on where this one stopped; members that find no job go on by themselves within half an hour; "
        f"`spotkeeper sweep cancel {name}` gives it up"
    )


def _send(record: SweepRecord, connection: Connection, now: str, pause: Callable[[float], object]) -> str | None:
    members = tuple(connection.sweeps.members(record))
    for seconds in (*_WAITS_SECONDS, None):
        try:
            # Read again: whether SubmitJob was called may have changed.
            current = connection.sweeps.get(record.name) or record
            return array.submit(current, members, ports=connection.ports, sweeps=connection.sweeps, now=now)
        except (ReplyLost, Throttled):
            if seconds is None:
                raise
            pause(seconds)
            members = tuple(connection.sweeps.members(record))
    raise AssertionError("the last round returns or raises")
