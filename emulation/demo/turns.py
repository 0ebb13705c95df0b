"""What is told of a run that changes markets: sentences from its ledger item, its jobs and its attempts' logs."""

from collections.abc import Callable, Iterator
from typing import Any

from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.control.classify import WAITED_REASON
from spotkeeper.control.run import Run
from spotkeeper.policy.money import format_usd
from spotkeeper.policy.placement import Market

_CANCELLED_BY_BATCH = "Canceled by JobStateTimeLimit action"


def turns(before: Run, after: Run, reserved_microusd: Callable[[int], int]) -> Iterator[str]:
    """Tell what has happened to a run between two looks at its item.

    `reserved_microusd` says what was set aside for a submission.
    """
    if after.submission != before.submission:
        yield from _moved_on(before, after, reserved_microusd)
    if after.standby_submission not in (None, before.standby_submission):
        yield f"looks for spot: submission {after.standby_submission} is its standby"
    if after.wait_until not in (None, before.wait_until):
        yield f"waits, at most until {after.wait_until}: {after.reason}"


def _moved_on(before: Run, after: Run, reserved_microusd: Callable[[int], int]) -> Iterator[str]:
    if after.market == Market.ON_DEMAND:
        reserved, cap = format_usd(reserved_microusd(after.submission)), format_usd(after.fallback_cap_microusd)
        yield f"falls back to on-demand: {reserved} reserved of a cap of {cap}"
    elif after.submission == before.standby_submission:
        yield "back on spot: its standby takes over"
    else:
        yield f"submitted again on spot: submission {after.submission}"


def shortage(detail: dict[str, Any], *, is_dry: bool) -> str | None:
    """Tell what a change of a job has to do with missing capacity, from its JobDetail. `is_dry`: its queue has none."""
    reason = detail.get("statusReason") or ""
    if detail["status"] == "RUNNABLE" and is_dry:
        return "waits: its job is RUNNABLE, and there is no machine for it"
    if detail["status"] == "FAILED" and reason.startswith(_CANCELLED_BY_BATCH):
        return "AWS Batch cancels the job: no capacity within the queue's time limit"
    if detail["status"] == "FAILED" and reason == WAITED_REASON:
        return "Spotkeeper withdraws the job: it has waited long enough"
    return None


def handover(event: dict[str, Any], *, name: str, place: str) -> str | None:
    """Tell what a structured line of an attempt has to do with a handover."""
    match event["event"]:
        case LogEvent.STANDBY:
            return f"standby {name} waits on {place}"
        case LogEvent.HANDOVER_ASKED:
            return f"standby {name} asks for the run"
        case LogEvent.LEFT:
            return f"standby {name} leaves: {event.get('reason')}"
        case LogEvent.YIELDED:
            return f"attempt {name} saved at step {event.get('committed_step')} and yields"
        case _:
            return None
