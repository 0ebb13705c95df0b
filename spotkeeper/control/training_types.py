"""Which instance type a run's next spot job on SageMaker asks for.

A managed spot job names exactly one type, so what AWS Batch does within a compute environment is done here, one job
after another: each type has its time to get machines, then the next one is asked for; after the last, placement decides
as it does for every run without a machine, and the next row begins with the first type again. A type of which the
account's quota allows no machine counts as one without capacity, and so does on-demand: after a wait, spot is next.
"""

from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import Ports
from spotkeeper.control.requeue import after
from spotkeeper.control.run import Lack, Run
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms
from spotkeeper.policy.placement import Market


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


def makes_way(run: Run, *, waited_seconds: float, ports: Ports) -> bool:
    """Tell whether the run's job has waited as long as one type is given, and there are others."""
    profile = _asked_of(run, ports.terms)
    if profile is None or profile.training is None or len(profile.spot_instance_types) == 1:
        return False
    return waited_seconds >= profile.training.starting_seconds


def without_quota(run: Run, words: str, terms: EnvironmentTerms, *, now: str) -> dict[str, Any]:
    """Return the changes of a run whose request the account's quota has no machines for."""
    other_type = following(run, terms)
    if other_type is not None:
        reason = f"{words}; {other_type} is next"
        return {
            "state": RunState.WAITING,
            "wait_until": now,
            "lacks": None,
            "instance_type": other_type,
            "reason": reason,
        }
    row_begins_anew = {"instance_type": None} if run.market == Market.SPOT else {}
    return {
        **row_begins_anew,
        "state": RunState.WAITING,
        "wait_until": after(now, run.num_capacity_waits),
        "lacks": Lack.CAPACITY,
        "num_capacity_waits": run.num_capacity_waits + 1,
        "dry_since": run.dry_since or now,
        "reason": words,
    }


def _asked_of(run: Run, terms: EnvironmentTerms) -> ProfileTerms | None:
    profile = terms.profiles.get(run.profile)
    is_one_type = run.market == Market.SPOT and profile is not None and profile.training is not None
    return profile if is_one_type else None
