"""A fast emulation hands out real, nearer deadlines: programs keep real time, and only what they are told is nearer.

The placement times of the stored descriptor are divided by the clock's speed, once, when the parameter is loaded. Not
the segment: it is AWS Batch's time limit of an attempt, which the emulated Batch divides by itself.
"""

import math
from dataclasses import replace
from typing import Final

from emulation.aws import Aws
from emulation.templates.adapt import Note
from emulation.templates.deployment import Resource
from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.handover import POLL_SECONDS
from spotkeeper.contract.names import descriptor_parameter

SHORTEST_SECONDS: Final = 1
SHORTEST_PATIENCE_SECONDS: Final = math.ceil(4 * POLL_SECONDS)
"""Both sides of a handover look at the run in real time, however fast the clock: the standby must not tire before."""
DIVIDED: Final = (
    "fallback_after_seconds",
    "standby_after_seconds",
    "standby_age_seconds",
    "standby_patience_seconds",
)


def bring_nearer(aws: Aws, resources: tuple[Resource, ...], *, environment: str, speed: float) -> tuple[Note, ...]:
    """Divide the placement times of the environment's descriptor, if it has one; return a note of it."""
    name = descriptor_parameter(environment)
    stored = next((found for found in resources if found.physical_id == name), None)
    if stored is None or speed == 1:
        return ()
    descriptor = Descriptor.from_json(stored.properties["Value"])
    times = {field: getattr(descriptor.placement, field) for field in DIVIDED}
    nearer = {field: max(SHORTEST_SECONDS, round(seconds / speed)) for field, seconds in times.items()}
    shortest = min(times["standby_patience_seconds"], SHORTEST_PATIENCE_SECONDS)
    nearer["standby_patience_seconds"] = max(shortest, nearer["standby_patience_seconds"])
    changed = replace(descriptor, placement=replace(descriptor.placement, **nearer))
    if descriptor.training is not None:
        times["starting_seconds"] = descriptor.training.starting_seconds
        nearer["starting_seconds"] = max(SHORTEST_SECONDS, round(times["starting_seconds"] / speed))
        changed = replace(changed, training=replace(descriptor.training, starting_seconds=nearer["starting_seconds"]))
    aws.ssm.put_parameter(Name=name, Value=changed.to_json(), Overwrite=True)
    told = ", ".join(f"{field} {times[field]} -> {seconds}" for field, seconds in nearer.items())
    return (Note(logical_id=stored.logical_id, type=stored.type, reason=f"at speed {speed:g}: {told}"),)
