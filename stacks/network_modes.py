"""Where the hosts of an environment stand: three modes, of which `Environment.network` takes one.

The two that make a VPC make the same subnets, so that an environment can change from one to the other. What each costs
while nothing runs: docs/costs.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stacks.setting_types import check_types

_VPC: Final = re.compile(r"vpc-([0-9a-f]{8}|[0-9a-f]{17})")
_SUBNET: Final = re.compile(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})")
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicEgress:
    """A VPC of its own: hosts have public addresses and reach the internet, and nothing reaches them.

    The cheapest, since a NAT gateway costs more than many jobs. Programs may download what they want, and send it too.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolated:
    """A VPC of its own without a way out: hosts reach AWS's services by private endpoints, and nothing else.

    A program that installs packages or downloads data when it starts fails here: put them into its image or into S3.
    It is no wall against malice: the S3 endpoint leads to every bucket, so also to one whose owner lets data in.
    """

    endpoint_zones: int = 2
    """Zones, the first of the environment's, in which each endpoint stands; hosts in all zones use them. Every further
    one costs as much again, and what crosses zones, at little cost, is manifests and log lines: layers and checkpoints
    take the S3 gateway. One is enough until that zone fails."""
    more_services: tuple[str, ...] = ()
    """Interface endpoints that your programs need beside ours (`spotkeeper.contract.host_services`), by the part of
    the name after `com.amazonaws.REGION.`, such as 'sts'. Each is billed in each endpoint zone."""

    def __post_init__(self) -> None:
        """Check what AWS would refuse while it deploys."""
        check_types(self)
        if type(self.endpoint_zones) is not int or self.endpoint_zones < 1:
            raise ValueError(f"Isolated.endpoint_zones must be a whole number from 1, got {self.endpoint_zones!r}")
        for service in self.more_services:
            if not _SERVICE.fullmatch(service):
                raise ValueError(
                    "Isolated.more_services must be service names such as 'sts' or 'sagemaker.api', the part after "
                    f"'com.amazonaws.REGION.', got {service!r}"
                )
        if len(set(self.more_services)) != len(self.more_services):
            raise ValueError(f"Isolated.more_services must name each once, got {self.more_services}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExistingVpc:
    """A VPC of yours, by ids: nothing is looked up, so synthesis needs no credentials, and nothing in it is changed.

    Its subnets must give hosts a way to ECS, ECR and CloudWatch Logs (a NAT gateway, public addresses, or the
    endpoints of `spotkeeper.contract.host_services`), and should have gateway endpoints for S3 and DynamoDB: through a
    NAT gateway every checkpoint is billed by the gigabyte. DNS hostnames and DNS resolution must be on.
    """

    vpc_id: str
    """`vpc-` and 17 hexadecimal digits (older ones: 8)."""
    subnet_ids: Mapping[str, str]
    """Zone -> subnet, one for each of `Environment.availability_zones`."""

    def __post_init__(self) -> None:
        """Check the form of the ids; whether they exist only AWS knows."""
        check_types(self)
        if not _VPC.fullmatch(self.vpc_id):
            raise ValueError(
                f"ExistingVpc.vpc_id must be a VPC id such as 'vpc-0123456789abcdef0', got {self.vpc_id!r}"
            )
        for zone, subnet in self.subnet_ids.items():
            if not _SUBNET.fullmatch(subnet):
                raise ValueError(
                    f"ExistingVpc.subnet_ids[{zone!r}] must be a subnet id such as 'subnet-0123456789abcdef0', got "
                    f"{subnet!r}"
                )
        if len(set(self.subnet_ids.values())) != len(self.subnet_ids):
            raise ValueError(f"ExistingVpc.subnet_ids must name each subnet once, got {dict(self.subnet_ids)}")


Network = PublicEgress | Isolated | ExistingVpc


def check_zones(network: Network, zones: tuple[str, ...]) -> None:
    """Check a network against the zones of its environment.

    Raises:
        ValueError: naming the field, the zones there are, and the fix.
    """
    if isinstance(network, Isolated) and network.endpoint_zones > len(zones):
        raise ValueError(
            f"Isolated.endpoint_zones must be at most {len(zones)}, the zones of Environment.availability_zones, got "
            f"{network.endpoint_zones}"
        )
    if isinstance(network, ExistingVpc) and set(network.subnet_ids) != set(zones):
        raise ValueError(
            f"ExistingVpc.subnet_ids must have one subnet for each of Environment.availability_zones {zones}, got "
            f"{tuple(network.subnet_ids)}: add the subnet or remove the zone"
        )
