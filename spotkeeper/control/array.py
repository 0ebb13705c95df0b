"""Submit the first jobs of a sweep's members as one array job, at most once.

    members recorded (SUBMITTING) -> sent_at recorded -> SubmitJob -> each member takes up its child by itself

A child becomes its member's job by the first event of it, by its claim, or by the sweeper (`lookup`). After a crash the
array is looked up by its name and never submitted again: members that find no child go on by themselves, as jobs of
their own (`reconcile`), and so does every member that is re-queued.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import array_job_name
from spotkeeper.control import submit as single
from spotkeeper.control.classify import TWIN_REASON
from spotkeeper.control.lookup import LOOK_UP_SECONDS
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import NotAllowed, Ports, Refused, ReplyLost, Sweeps, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord

SMALLEST: Final = 2
LARGEST: Final = 10_000
"""AWS Batch takes no smaller and no larger array."""


def array_request(member: Run, *, own: Collection[str], size: int) -> dict[str, Any]:
    """Return the parameters of SubmitJob for the first jobs of a sweep's members.

    Args:
        member: Any of them, in its first submission.
        own: Names of the variables that each member sets for itself. It is given them with its claim, since an array's
            children share one environment.
        size: Number of children.
    """
    assert member.sweep is not None
    request = single.job_request(member)
    container = request["containerOverrides"]
    shared = {
        pair["name"]: pair["value"]
        for pair in container["environment"]
        if pair["name"] != variables.RUN_ID and pair["name"] not in own
    }
    shared[variables.SWEEP] = member.sweep
    return {
        **request,
        "jobName": array_job_name(member.sweep),
        "arrayProperties": {"size": size},
        "containerOverrides": {
            **container,
            "environment": [{"name": name, "value": value} for name, value in sorted(shared.items())],
        },
        "tags": {name: value for name, value in request["tags"].items() if name != tags.RUN},
    }


def submit(sweep: SweepRecord, members: Sequence[Run], *, ports: Ports, sweeps: Sweeps, now: str) -> str | None:
    """Submit the array, unless somebody has; return its job id. None: no member waits for one (any more).

    An array that members might give up before a look-up shows it is not submitted any more: they go on by themselves.
    A member whose first hour no budget allows rests, as it would by itself; should the array have a child for it, that
    is refused its claim.

    Args:
        sweep: As read.
        members: All of them, by index.
        ports: The world.
        sweeps: The ledger of sweeps.
        now: ISO 8601, UTC.

    Raises:
        Conflict: somebody else submits it at this moment.
        Refused: Batch rejects the request; the members are closed as FAILED with Batch's words.
        NotAllowed, Throttled: nothing happened; call again. Else the members go on by themselves.
        ReplyLost: the array may exist. Call again to look for it; the members find it by themselves.
    """
    if sweep.sent_at is not None:
        return _look_up(members[0], ports) if any(map(_waits_for_array, members)) else None
    if any(_waits_for_array(member) and _is_too_late(member, now) for member in members):
        return None
    secured = [_secured(member, ports, now) for member in members]
    waiting = [index for index, member in enumerate(secured) if _waits_for_array(member)]
    if not waiting:
        return None
    size = max(SMALLEST, *(1 + (secured[index].array_index or 0) for index in waiting))
    request = array_request(secured[waiting[0]], own=sweep.parameters, size=size)
    sent = sweeps.mark_sent(sweep, at=now)
    try:
        array_id = ports.batch.submit(request)
    except (Throttled, NotAllowed):
        sweeps.mark_sent(sent, at=None)
        raise
    except ReplyLost:
        return _look_up(members[0], ports)
    except Refused as refusal:
        for index in waiting:
            single.close_refused(secured[index], f"AWS Batch refused the job: {refusal}", ledger=ports.ledger, now=now)
        raise
    _stop_unwanted(array_id, size, sweep, ports, sweeps)
    return array_id


def _stop_unwanted(array_id: str, size: int, sweep: SweepRecord, ports: Ports, sweeps: Sweeps) -> None:
    """Stop the children of members that were cancelled or paused meanwhile: no event need come of it."""
    for member in sweeps.members(sweep):
        index = member.array_index
        if index is not None and index < size and (member.is_closed or member.state is RunState.PAUSED):
            ports.batch.terminate(f"{array_id}:{index}", TWIN_REASON)


def _secured(member: Run, ports: Ports, now: str) -> Run:
    return single.secure(member, ports=ports, now=now) if _waits_for_array(member) else member


def _waits_for_array(member: Run) -> bool:
    return member.state is RunState.SUBMITTING and member.is_array_child


def _is_too_late(member: Run, now: str) -> bool:
    # `reconcile` gives up after twice the time. What it has given up is settled, and must not run after that.
    return seconds_between(member.created_at, now) > LOOK_UP_SECONDS


def _look_up(member: Run, ports: Ports) -> str:
    assert member.sweep is not None
    named = ports.batch.find(array_job_name(member.sweep), queue=ports.terms.profiles[member.profile].spot_queue)
    if not named:
        raise ReplyLost(f"no look-up shows the array job of sweep {member.sweep} yet")
    return named[0].job_id
