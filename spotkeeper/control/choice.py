"""Where a run whose job has ended goes on: what `requeue` decided, with a market, and perhaps a standby to take over.

`requeue` knows how the job ended, placement how long spot was dry, a standby whether spot is there.
"""

from dataclasses import dataclass, replace

from spotkeeper.control import outlook, standby, training_types
from spotkeeper.control.classify import Cause, Ending
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.requeue import Action, Decision
from spotkeeper.control.run import Run
from spotkeeper.control.shortage import allows_fallback, shortage
from spotkeeper.policy import deadline_guard as guard
from spotkeeper.policy.placement import NO_ON_DEMAND, Market


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a run does next, and where."""

    decision: Decision
    market: Market | None = None
    """None: the decision leads to no submission."""
    instance_type: str | None = None
    """On SageMaker's spot: the type to ask for now; None: the same as before."""
    heir: Job | None = None
    """The standby's job, which takes over."""


def choose(run: Run, ending: Ending, decision: Decision, ports: Ports, now: str) -> Choice:
    """Return what follows a job that ended this way on the run's market.

    Args:
        run: The run, with the newest checkpoint's step as its `committed_step`.
        ending: How its job ended.
        decision: Of `requeue`.
        ports: The world.
        now: ISO 8601, UTC.
    """
    if decision.action is Action.REQUEUE and run.market == Market.ON_DEMAND:
        heir = standby.heir(run, ports)
        if heir is not None:
            return Choice(decision=decision, market=Market.SPOT, heir=heir)
        # Only a standby that has found nothing tells that spot is still dry.
        is_dry = run.num_failed_standbys > 0 or run.standby_submission is not None
        stays = (is_dry or _is_pressed(run, ports, now)) and ending.cause is not Cause.SWITCHED_OFF
        return Choice(decision=decision, market=Market.ON_DEMAND if stays else Market.SPOT)
    if decision.action is Action.REQUEUE:
        forbidding = _forbids_spot(run, ports, now)
        if forbidding is not None:
            decision = replace(decision, reason=f"{decision.reason}; {forbidding}")
            return Choice(decision=decision, market=Market.ON_DEMAND)
        return Choice(decision=decision, market=Market.SPOT)
    if decision.action is Action.WAIT and ending.cause is Cause.NO_CAPACITY:
        return _without_capacity(run, decision, ports, now)
    return Choice(decision=decision)


def _is_pressed(run: Run, ports: Ports, now: str) -> bool:
    """Tell whether the run's deadline does not allow it to wait for spot."""
    return run.deadline_at is not None and shortage(run, ports=ports, now=now).placement.market is Market.ON_DEMAND


def _forbids_spot(run: Run, ports: Ports, now: str) -> str | None:
    """Return why the run's deadline does not allow another start on spot, even if spot is there; None: it does."""
    at = outlook.after_loss(run, newest_step=run.committed_step, now=now)
    if at is None or at.remaining_hours <= 0 or guard.may_use_spot(at) or not allows_fallback(run, ports):
        return None
    return f"its deadline allows no other start on spot: slack {guard.slack_hours(at):.2f} h"


def _without_capacity(run: Run, decision: Decision, ports: Ports, now: str) -> Choice:
    if run.market == Market.ON_DEMAND:
        requeue = replace(decision, action=Action.REQUEUE, reason=f"{decision.reason}; back to spot")
        return Choice(decision=requeue, market=Market.SPOT)
    short = shortage(run, ports=ports, now=now)
    other_type = training_types.following(run, ports.terms)
    is_pressed = run.deadline_at is not None and short.placement.market is Market.ON_DEMAND
    if other_type is not None and not is_pressed:
        requeue = replace(decision, action=Action.REQUEUE, reason=f"{decision.reason}; {other_type} is next")
        return Choice(decision=requeue, market=Market.SPOT, instance_type=other_type)
    row = training_types.row_ended(run, ports.terms)
    told = f"{decision.reason}{row}"
    if short.placement.market is Market.ON_DEMAND:
        reason = told if row and not is_pressed else short.placement.reason
        return Choice(decision=replace(decision, action=Action.REQUEUE, reason=reason), market=Market.ON_DEMAND)
    if not allows_fallback(run, ports):
        return Choice(decision=replace(decision, reason=f"{told}; {NO_ON_DEMAND}"))
    wait_until = min(decision.wait_until or short.fallback_at, short.fallback_at)
    return Choice(
        decision=replace(decision, wait_until=wait_until, reason=f"{told}; on-demand is due at {short.fallback_at}")
    )
