"""The instance types that profiles may use, and what each gives a job.

Frozen from EC2's DescribeInstanceTypes, because synthesis asks nobody; a test compares it with a newer snapshot. To
use another type, add its row:

    aws ec2 describe-instance-types --instance-types TYPE
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceType:
    """One row."""

    vcpus: int
    memory_mib: int
    """As installed; hypervisor, kernel and ECS agent keep a part of it."""
    gpus: int = 0
    gpu_model: str = ""
    gpu_memory_mib: int = 0
    """Of one GPU, as EC2 states it: a card sold with 24 GB has 22,888 MiB."""
    architecture: Literal["x86_64", "arm64"] = "x86_64"


INSTANCE_TYPES: Final[Mapping[str, InstanceType]] = MappingProxyType(
    {
        "m5.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m5a.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m5d.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m6a.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m6i.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m6id.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m7a.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "m7i.xlarge": InstanceType(vcpus=4, memory_mib=16_384),
        "r5.xlarge": InstanceType(vcpus=4, memory_mib=32_768),
        "r5a.xlarge": InstanceType(vcpus=4, memory_mib=32_768),
        "r6a.xlarge": InstanceType(vcpus=4, memory_mib=32_768),
        "r6i.xlarge": InstanceType(vcpus=4, memory_mib=32_768),
        "r7i.xlarge": InstanceType(vcpus=4, memory_mib=32_768),
        # No profile may use it until the image is built for arm64 too.
        "m7g.xlarge": InstanceType(vcpus=4, memory_mib=16_384, architecture="arm64"),
        "g5.xlarge": InstanceType(vcpus=4, memory_mib=16_384, gpus=1, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.2xlarge": InstanceType(vcpus=8, memory_mib=32_768, gpus=1, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.4xlarge": InstanceType(vcpus=16, memory_mib=65_536, gpus=1, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.8xlarge": InstanceType(vcpus=32, memory_mib=131_072, gpus=1, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.16xlarge": InstanceType(vcpus=64, memory_mib=262_144, gpus=1, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.12xlarge": InstanceType(vcpus=48, memory_mib=196_608, gpus=4, gpu_model="A10G", gpu_memory_mib=22_888),
        "g5.24xlarge": InstanceType(vcpus=96, memory_mib=393_216, gpus=4, gpu_model="A10G", gpu_memory_mib=22_888),
        "g6.xlarge": InstanceType(vcpus=4, memory_mib=16_384, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.2xlarge": InstanceType(vcpus=8, memory_mib=32_768, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.4xlarge": InstanceType(vcpus=16, memory_mib=65_536, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.8xlarge": InstanceType(vcpus=32, memory_mib=131_072, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.16xlarge": InstanceType(vcpus=64, memory_mib=262_144, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.12xlarge": InstanceType(vcpus=48, memory_mib=196_608, gpus=4, gpu_model="L4", gpu_memory_mib=22_888),
        "g6.24xlarge": InstanceType(vcpus=96, memory_mib=393_216, gpus=4, gpu_model="L4", gpu_memory_mib=22_888),
        "gr6.4xlarge": InstanceType(vcpus=16, memory_mib=131_072, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "gr6.8xlarge": InstanceType(vcpus=32, memory_mib=262_144, gpus=1, gpu_model="L4", gpu_memory_mib=22_888),
        "g6e.xlarge": InstanceType(vcpus=4, memory_mib=32_768, gpus=1, gpu_model="L40S", gpu_memory_mib=45_776),
        "g6e.2xlarge": InstanceType(vcpus=8, memory_mib=65_536, gpus=1, gpu_model="L40S", gpu_memory_mib=45_776),
        "g6e.4xlarge": InstanceType(vcpus=16, memory_mib=131_072, gpus=1, gpu_model="L40S", gpu_memory_mib=45_776),
        "g6e.8xlarge": InstanceType(vcpus=32, memory_mib=262_144, gpus=1, gpu_model="L40S", gpu_memory_mib=45_776),
        "g6e.16xlarge": InstanceType(vcpus=64, memory_mib=524_288, gpus=1, gpu_model="L40S", gpu_memory_mib=45_776),
        "p4de.24xlarge": InstanceType(vcpus=96, memory_mib=1_179_648, gpus=8, gpu_model="A100", gpu_memory_mib=81_920),
        "p5.48xlarge": InstanceType(vcpus=192, memory_mib=2_097_152, gpus=8, gpu_model="H100", gpu_memory_mib=81_920),
    }
)
