"""Which instance type a run's next spot job on SageMaker asks for.

A managed spot job names exactly one type, so what AWS Batch does within a compute environment is done here, one job
after another: each type has its time to get machines, then the next one is asked for; after the last, placement decides
as it does for every run without a machine, and the next row begins with the first type again. A type of which the
account's quota allows no machine counts as one without capacity, and so does on-demand: after a wait, spot is next. No
wait for spot is longer than until on-demand is due.
"""

from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import reserve
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Ports
from spotkeeper.control.requeue import after
from spotkeeper.control.run import Lack, Run
from spotkeeper.control.shortage import allows_fallback, shortage
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms
from spotkeeper.policy.placement import NO_ON_DEMAND, Market


def following(run: Run, terms: EnvironmentTerms) -> str | None:
    """Return the type to ask for after the present one; None: there is none, or the run asks for no single type."""
    profile = _asked_of(run, terms)
    if profile is None:
        return None
    types = profile.spot_instance_types
    present = run.instance_type or types[0]
    # A type that the settings have dropped since was the last of its row.
    later = types[types.index(present) + 1 :] if present in types else ()
    return later[0] if later else None


def row_ended(run: Run, terms: EnvironmentTerms) -> str:
    """Return, to be put behind words about the present type, that it is the last of several; '' if it is not."""
    profile = _asked_of(run, terms)
    number = len(profile.spot_instance_types) if profile is not None else 0
    is_row = number > 1
    if not is_row or following(run, terms) is not None:
        return ""
    return f"; it was the last of the {number} spot types of profile {run.profile}"


def makes_way(run: Run, *, waited_seconds: float, ports: Ports) -> bool:
    """Tell whether the run's job has waited as long as one type is given, and there are others."""
    profile = _asked_of(run, ports.terms)
    if profile is None or profile.training is None or len(profile.spot_instance_types) == 1:
        return False
    return waited_seconds >= profile.training.starting_seconds


def without_quota(run: Run, words: str, *, ports: Ports, now: str) -> dict[str, Any]:
    """Return the changes of a run whose request the account's quota has no machines for."""
    is_on_spot = run.market == Market.SPOT
    other_type = following(run, ports.terms)
    due_at = _fallback_at(run, ports, now) if is_on_spot else None
    presses = run.deadline_at is not None and due_at is not None and seconds_between(due_at, now) >= 0
    if other_type is not None and not presses:
        reason = f"{words}; {other_type} is next"
        return {
            "state": RunState.WAITING,
            "wait_until": now,
            "lacks": None,
            "instance_type": other_type,
            "reason": reason,
        }
    wait_until = after(now, run.num_capacity_waits)
    if due_at is not None and seconds_between(due_at, wait_until) > 0:
        wait_until = due_at
    if is_on_spot:
        # Not due, or due and not to be paid.
        on_demand = f"on-demand is due at {due_at}" if due_at is not None else "on-demand cannot be paid"
        words += f"{row_ended(run, ports.terms)}; {on_demand if allows_fallback(run, ports) else NO_ON_DEMAND}"
    return {
        # Back on spot, the row of types goes on; after its last one it begins anew.
        **({"instance_type": other_type} if is_on_spot else {}),
        "state": RunState.WAITING,
        "wait_until": wait_until,
        "lacks": Lack.CAPACITY,
        "num_capacity_waits": run.num_capacity_waits + 1,
        "reason": words,
    }


def _fallback_at(run: Run, ports: Ports, now: str) -> str | None:
    """Return when the run goes to on-demand, as far as that is known now; None: it does not."""
    if not allows_fallback(run, ports):
        return None
    due_at = shortage(run, ports=ports, now=now).fallback_at
    # What is due and cannot be paid, is no reason to ask spot again at once.
    is_to_come = seconds_between(now, due_at) > 0
    return due_at if is_to_come or reserve.affords_on_demand(run, ports=ports, now=now) else None


def _asked_of(run: Run, terms: EnvironmentTerms) -> ProfileTerms | None:
    profile = terms.profiles.get(run.profile)
    is_one_type = run.market == Market.SPOT and profile is not None and profile.training is not None
    return profile if is_one_type else None
