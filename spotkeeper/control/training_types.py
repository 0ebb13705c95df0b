"""Which instance type a run's next spot job on SageMaker asks for.

A managed spot job names exactly one type, so what AWS Batch does within a compute environment is done here, one job
after another: each type has its time to get machines, then the next one is asked for; after the last, placement decides
as it does for every run without a machine, and the next row begins with the first type again.
"""

from spotkeeper.control.ports import Ports
from spotkeeper.control.run import Run
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


def _asked_of(run: Run, terms: EnvironmentTerms) -> ProfileTerms | None:
    profile = terms.profiles.get(run.profile)
    is_one_type = run.market == Market.SPOT and profile is not None and profile.training is not None
    return profile if is_one_type else None
