"""May the account hold as many vCPUs as a compute environment may ask for?

Quotas count vCPUs in a region, apart for spot and on-demand, and for classes of instance families. New accounts often
have 0 for GPUs, and jobs then wait for ever. The codes stand as keys in Service Quotas:
docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding, NotChecked

STANDARD: Final = "Standard (A, C, D, H, I, M, R, T, Z)"
GRAPHICS: Final = "G and VT"
P2_TO_P4: Final = "P4, P3 and P2"
P5: Final = "P5"

SPOT_CODES: Final = {STANDARD: "L-34B43A08", GRAPHICS: "L-3819A6DF", P2_TO_P4: "L-7212CCBC", P5: "L-C4BD4855"}
ON_DEMAND_CODES: Final = {
    STANDARD: "L-1216C47A",
    GRAPHICS: "L-DB2E81BA",
    # On-demand counts all of P in one quota.
    P2_TO_P4: "L-417A185B",
    P5: "L-417A185B",
}

_STANDARD_FAMILIES: Final = frozenset({"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"})
_GRAPHICS_FAMILIES: Final = frozenset({"g", "gr", "vt"})


def quota_class(instance_type: str) -> str | None:
    """Return the class of families that shares a quota with this type, or None where it is not known here."""
    match = re.match(r"([a-z]+)(\d+)", instance_type)
    if match is None:
        return None
    family, generation = match[1], int(match[2])
    if family in _STANDARD_FAMILIES:
        return STANDARD
    if family in _GRAPHICS_FAMILIES:
        return GRAPHICS
    if family == "p" and generation <= 5:
        return P5 if generation == 5 else P2_TO_P4
    return None


def quotas_suffice(examined: Examined) -> Iterator[Finding]:
    """Quotas are at least what one compute environment may hold; of on-demand, where money may be spent there."""
    descriptor = examined.descriptor
    unknown: set[str] = set()
    markets = [("spot", SPOT_CODES, "spot_max_vcpus", descriptor.spot_max_vcpus)]
    if descriptor.caps.fallback_usd is None or Decimal(descriptor.caps.fallback_usd):
        markets.append(("on-demand", ON_DEMAND_CODES, "on_demand_max_vcpus", descriptor.on_demand_max_vcpus))
    client = examined.client("service-quotas")
    for market, codes, setting, wanted in markets:
        users: dict[str, set[str]] = defaultdict(set)
        for name, profile in descriptor.profiles.items():
            for type_ in profile.spot_instance_types if market == "spot" else profile.on_demand_instance_types:
                class_ = quota_class(type_)
                if class_ is None:
                    unknown.add(type_)
                else:
                    users[codes[class_]].add(name)
        for code, profiles in sorted(users.items()):
            name, vcpus = _quota(client, code)
            if vcpus < wanted:
                ask = f"service-quotas request-service-quota-increase --service-code ec2 --quota-code {code}"
                yield Finding(
                    subject=f"quota {code}, {name} (profiles {', '.join(sorted(profiles))})",
                    value=f"{vcpus:g} vCPUs",
                    expected=f"at least {wanted}, which {setting} lets one compute environment hold: without it, jobs "
                    "wait although there is capacity",
                    fix=f"{examined.aws(f'{ask} --desired-value {wanted}')}, or lower {setting} in "
                    "stacks/environments.py",
                )
    if unknown:
        raise NotChecked(f"no quota code is known for {', '.join(sorted(unknown))}: see the Service Quotas console")


def _quota(client: Any, code: str) -> tuple[str, float]:
    """Return name and value of a quota: the account's own, else AWS's default."""
    try:
        quota = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchResourceException":
            raise
        quota = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    return quota["QuotaName"], quota["Value"]
