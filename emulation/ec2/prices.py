"""Instance types and what an hour of them costs: a small dated table, so that the emulation needs no network.

On-demand prices are those of Linux in us-east-1, in USD per hour, without tax. Read on 2026-11-23 from AWS's public
price list as mirrored by github.com/skypilot-org/skypilot-catalog (commit 00148f2, itself undated, not before
2026-01) for the types listed there; the other rows were written from memory and not verified. They make an emulated
bill plausible and are good for nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What Batch needs to know of an instance type."""

    name: str
    vcpus: int
    memory_mib: int
    gpus: int
    on_demand_usd_per_hour: float


# Family -> price of its xlarge (4 vCPUs). Prices are linear in size within a family.
_XLARGE_USD: Final = {
    "c5": 0.17, "c5a": 0.154, "c5d": 0.192, "c5n": 0.216, "c6a": 0.153, "c6i": 0.17, "c6id": 0.2016, "c6in": 0.2268,
    "c7a": 0.20528, "c7i": 0.1785, "c8i": 0.18743,
    "m5": 0.192, "m5a": 0.172, "m5d": 0.226, "m5n": 0.238, "m6a": 0.1728, "m6i": 0.192, "m6id": 0.2373,
    "m7a": 0.23184, "m7i": 0.2016, "m8i": 0.21168,
    "r5": 0.252, "r5a": 0.226, "r5n": 0.298, "r6a": 0.2268, "r6i": 0.252, "r7a": 0.3043, "r7i": 0.2646, "r8i": 0.27783,
}  # fmt: skip
_GIB_PER_VCPU: Final = {"c": 2.0, "m": 4.0, "r": 8.0}
_EXCEPTIONAL_GIB_PER_VCPU: Final = {"c5n": 2.625}
_XLARGES: Final = {"large": 0.5, "xlarge": 1, "2xlarge": 2, "4xlarge": 4, "8xlarge": 8, "12xlarge": 12, "16xlarge": 16,
                   "24xlarge": 24}  # fmt: skip

# Name: (vCPUs, GiB, GPUs, USD per hour).
_ACCELERATED: Final = {
    "g4dn.xlarge": (4, 16, 1, 0.526), "g4dn.2xlarge": (8, 32, 1, 0.752), "g4dn.4xlarge": (16, 64, 1, 1.204),
    "g4dn.8xlarge": (32, 128, 1, 2.176), "g4dn.12xlarge": (48, 192, 4, 3.912), "g4dn.16xlarge": (64, 256, 1, 4.352),
    "g5.xlarge": (4, 16, 1, 1.006), "g5.2xlarge": (8, 32, 1, 1.212), "g5.4xlarge": (16, 64, 1, 1.624),
    "g5.8xlarge": (32, 128, 1, 2.448), "g5.16xlarge": (64, 256, 1, 4.096), "g5.12xlarge": (48, 192, 4, 5.672),
    "g5.24xlarge": (96, 384, 4, 8.144), "g5.48xlarge": (192, 768, 8, 16.288),
    "g6.xlarge": (4, 16, 1, 0.8048), "g6.2xlarge": (8, 32, 1, 0.9776), "g6.4xlarge": (16, 64, 1, 1.3232),
    "g6.8xlarge": (32, 128, 1, 2.0144), "g6.16xlarge": (64, 256, 1, 3.3968), "g6.12xlarge": (48, 192, 4, 4.6016),
    "g6.24xlarge": (96, 384, 4, 6.6752), "g6.48xlarge": (192, 768, 8, 13.3504),
    "gr6.4xlarge": (16, 128, 1, 1.5392), "gr6.8xlarge": (32, 256, 1, 2.4464),
    "g6e.xlarge": (4, 32, 1, 1.861), "g6e.2xlarge": (8, 64, 1, 2.24208), "g6e.4xlarge": (16, 128, 1, 3.00424),
    "g6e.8xlarge": (32, 256, 1, 4.52856), "g6e.16xlarge": (64, 512, 1, 7.57719),
    "g6e.12xlarge": (48, 384, 4, 10.49264), "g6e.24xlarge": (96, 768, 4, 15.06559),
    "g6e.48xlarge": (192, 1536, 8, 30.13118),
    "p3.2xlarge": (8, 61, 1, 3.06), "p3.8xlarge": (32, 244, 4, 12.24), "p3.16xlarge": (64, 488, 8, 24.48),
    "p4d.24xlarge": (96, 1152, 8, 21.957642), "p4de.24xlarge": (96, 1152, 8, 27.44705),
    "p5.48xlarge": (192, 2048, 8, 55.04), "p5en.48xlarge": (192, 2048, 8, 63.296),
}  # fmt: skip

ML_PREFIX: Final = "ml."
"""Before the name of a type that SageMaker gives: capacity and price of its own."""
_ML_FACTOR: Final = 1.2
"""What SageMaker asks of EC2's price, about, for types without an accelerator; of others more. From memory."""

# docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html, instanceTypes
_BUNDLES: Final = {
    "default_x86_64": ("m6i", "c6i", "r6i", "c7i"),
    "optimal": ("m6i", "c6i", "r6i", "c7i"),
}


def instance_type(name: str) -> InstanceType:
    """Return an instance type by its name, such as `c6i.xlarge`, or `ml.c6i.xlarge` for what SageMaker asks for it.

    Raises:
        ValueError: if the table does not have it.
    """
    if name.startswith(ML_PREFIX):
        same = instance_type(name.removeprefix(ML_PREFIX))
        return replace(same, name=name, on_demand_usd_per_hour=round(same.on_demand_usd_per_hour * _ML_FACTOR, 6))
    if name in _ACCELERATED:
        vcpus, memory_gib, gpus, usd_per_hour = _ACCELERATED[name]
        return InstanceType(name, vcpus, memory_gib * 1024, gpus, usd_per_hour)
    family, _, size = name.partition(".")
    if family in _XLARGE_USD and size in _XLARGES:
        vcpus = int(4 * _XLARGES[size])
        gib_per_vcpu = _EXCEPTIONAL_GIB_PER_VCPU.get(family, _GIB_PER_VCPU[family[0]])
        return InstanceType(
            name, vcpus, int(vcpus * gib_per_vcpu * 1024), 0, round(_XLARGE_USD[family] * _XLARGES[size], 6)
        )
    raise ValueError(
        f"the emulation knows no price of instance type {name!r}; it knows {', '.join(_XLARGE_USD)} in sizes "
        f"{', '.join(_XLARGES)}, and {', '.join(_ACCELERATED)}: add it to emulation/ec2/prices.py"
    )


def expand(names: Iterable[str]) -> tuple[InstanceType, ...]:
    """Return the instance types that a compute environment's list of types, families and bundles stands for.

    Raises:
        ValueError: if the table does not have one of them.
    """
    found: dict[str, InstanceType] = {}
    for name in names:
        for entry in _BUNDLES.get(name, (name,)):
            for member in _members(entry):
                found[member] = instance_type(member)
    return tuple(found.values())


def _members(name: str) -> list[str]:
    if "." in name:
        return [name]
    accelerated = [member for member in _ACCELERATED if member.startswith(f"{name}.")]
    return accelerated or [f"{name}.{size}" for size in _XLARGES]
