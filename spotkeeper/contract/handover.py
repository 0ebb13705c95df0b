"""How a standby takes a run over from an attempt on on-demand: make before break, through the run's ledger item.

A standby is the job of a submission that is not the run's current one yet. The control plane names it in
`standby_submission`. It is refused its claim as any other job would be; seeing its own number there it stays, says that
it has a machine, and once it is old enough asks for the run. The attempt that holds the run looks for that question,
saves and yields. When its job has ended, the control plane moves the run on to the standby's submission, and the claim
that was refused succeeds.

Beside `contract.ledger`, which holds the claim, these are the writes that an attempt makes itself.
"""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from spotkeeper.contract.ledger import LIVE_STATES, PARTITION_KEY, RUN_SORT_KEY, SORT_KEY, run_partition

STANDBY_SUBMISSION: Final = "standby_submission"
STANDBY_READY_AT: Final = "standby_ready_at"
HANDOVER_ASKED_AT: Final = "handover_asked_at"

POLL_SECONDS: Final = 5.0
"""How often a standby, and an attempt that a standby may follow, read the run's item: one read unit of DynamoDB for
each 4 KB of it, at most eight, which is some cents a day, while two machines are paid for during a handover."""


def view_request(*, table: str, run_id: str) -> dict[str, Any]:
    """Parameters of the `GetItem` by which both sides see the run as it is now."""
    return {
        "TableName": table,
        "Key": {PARTITION_KEY: {"S": run_partition(run_id)}, SORT_KEY: {"S": RUN_SORT_KEY}},
        "ConsistentRead": True,
    }


class RunView(TypedDict):
    """What the run's item says about a handover, in the words of `policy.standby.StandbyView`."""

    is_live: bool
    submission: int
    standby_submission: int | None
    has_asked: bool


def run_view(item: Mapping[str, Any]) -> RunView:
    """Return what an item says, as DynamoDB gives it. No item is no run: nothing lives there to take over."""
    standby = item.get(STANDBY_SUBMISSION)
    ended = ("cancel_requested_at", "pause_requested_at", "completion")
    return RunView(
        is_live=item.get("state", {}).get("S") in LIVE_STATES and not any(name in item for name in ended),
        submission=int(item.get("submission", {}).get("N", "0")),
        standby_submission=int(standby["N"]) if standby else None,
        has_asked=HANDOVER_ASKED_AT in item,
    )


def ready_request(*, table: str, run_id: str, submission: int, ready_at: str) -> dict[str, Any]:
    """Parameters of the `UpdateItem` by which a standby says that it has a machine.

    Refused with `ConditionalCheckFailedException` when the run wants no standby of this number (any more).
    """
    return _update(
        table,
        run_id,
        submission,
        condition=f"#{STANDBY_SUBMISSION} = :submission AND #submission <> :submission",
        sets={STANDBY_READY_AT: ready_at},
        names=("submission",),
        values={},
    )


def handover_request(*, table: str, run_id: str, submission: int, asked_at: str) -> dict[str, Any]:
    """Parameters of the `UpdateItem` by which a standby asks for the run.

    Refused with `ConditionalCheckFailedException` when the run has ended or rests, is complete, somebody wants to
    cancel or pause it, or another standby has taken this one's place. Asking again, after a lost reply, is asking once.
    """
    live = {f":live{index}": {"S": state.value} for index, state in enumerate(LIVE_STATES)}
    return _update(
        table,
        run_id,
        submission,
        condition=(
            f"#{STANDBY_SUBMISSION} = :submission AND #submission <> :submission"
            f" AND #state IN ({', '.join(live)})"
            " AND attribute_not_exists(#cancel_requested_at)"
            " AND attribute_not_exists(#pause_requested_at)"
            " AND attribute_not_exists(#completion)"
        ),
        sets={HANDOVER_ASKED_AT: asked_at},
        names=("submission", "state", "cancel_requested_at", "pause_requested_at", "completion"),
        values=live,
    )


def _update(
    table: str,
    run_id: str,
    submission: int,
    *,
    condition: str,
    sets: dict[str, str],
    names: tuple[str, ...],
    values: dict[str, Any],
) -> dict[str, Any]:
    assignments = [*(f"#{name} = :{name}" for name in sets), "#version = #version + :one"]
    return {
        "TableName": table,
        "Key": {PARTITION_KEY: {"S": run_partition(run_id)}, SORT_KEY: {"S": RUN_SORT_KEY}},
        "ConditionExpression": condition,
        "UpdateExpression": "SET " + ", ".join(assignments),
        "ExpressionAttributeNames": {f"#{name}": name for name in (*names, *sets, STANDBY_SUBMISSION, "version")},
        "ExpressionAttributeValues": {
            ":submission": {"N": str(submission)},
            ":one": {"N": "1"},
            **{f":{name}": {"S": value} for name, value in sets.items()},
            **values,
        },
        "ReturnValues": "ALL_NEW",
    }
