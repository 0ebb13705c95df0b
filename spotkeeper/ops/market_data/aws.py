"""Prices from AWS: the price list, the history of spot prices, instance types and placement scores."""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.market_data.port import Capability, MarketData, PoolPrice
from spotkeeper.policy.pools import Pool

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

PRICE_LIST_REGION: Final = "us-east-1"
"""The price list has endpoints in three regions only, and each tells the prices of all."""
_MIB_PER_GIB: Final = 1024


class AWSPrices:
    """Asks one region."""

    def __init__(self, *, ec2: "EC2Client", pricing: Any, region: str) -> None:
        """Take the clients: `ec2` of the region, `pricing` of `PRICE_LIST_REGION`."""
        self._ec2 = ec2
        self._pricing = pricing
        self._region = region

    def read(self, instance_types: Sequence[str], *, today: date) -> MarketData:
        """Return what machines of these types cost now; pools without a spot price are left out.

        Raises:
            OperationError: if the price list has no price, or several, of a type.
        """
        capabilities = self._capabilities(instance_types)
        on_demand = {name: self._on_demand_usd(name) for name in instance_types}
        zone_ids = {
            zone["ZoneName"]: zone["ZoneId"] for zone in self._ec2.describe_availability_zones()["AvailabilityZones"]
        }
        latest: dict[Pool, tuple[Any, str]] = {}
        for told in self._spot_prices(instance_types, today):
            zone_id = zone_ids.get(told["AvailabilityZone"])
            if zone_id is None:  # A local zone that the account has not opted in to.
                continue
            pool = Pool(told["InstanceType"], self._region, zone_id)
            if pool not in latest or told["Timestamp"] > latest[pool][0]:
                latest[pool] = (told["Timestamp"], told["SpotPrice"])
        return MarketData(
            read_on=today,
            source=f"AWS price list, and EC2 spot price history of {self._region}",
            capabilities=capabilities,
            prices=tuple(
                PoolPrice(
                    pool=pool,
                    on_demand_usd_per_hour=on_demand[pool.instance_type],
                    spot_usd_per_hour=float(latest[pool][1]),
                )
                for pool in sorted(latest)
            ),
        )

    def placement_scores(self, instance_types: Sequence[str], *, num_instances: int) -> dict[str, int]:
        """Return by zone id EC2's score of a request now, from 1 to 10. An account may ask a few of these a day."""
        scores: dict[str, int] = {}
        pages = self._ec2.get_paginator("get_spot_placement_scores").paginate(
            InstanceTypes=list(instance_types),
            TargetCapacity=num_instances,
            SingleAvailabilityZone=True,
            RegionNames=[self._region],
        )
        for page in pages:
            for told in page["SpotPlacementScores"]:
                scores[told["AvailabilityZoneId"]] = told["Score"]
        return scores

    def _spot_prices(self, instance_types: Sequence[str], today: date) -> Iterator[Any]:
        # From the beginning of the day: EC2 also returns the price that was in effect at the start.
        pages = self._ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(instance_types),  # type: ignore[arg-type]  # names that a person gave
            ProductDescriptions=["Linux/UNIX"],
            StartTime=today.isoformat(),
        )
        for page in pages:
            yield from page["SpotPriceHistory"]

    def _capabilities(self, instance_types: Sequence[str]) -> dict[str, Capability]:
        pages = self._ec2.get_paginator("describe_instance_types").paginate(InstanceTypes=list(instance_types))  # type: ignore[arg-type]  # the same
        found: dict[str, Capability] = {}
        for page in pages:
            for told in page["InstanceTypes"]:
                gpus = told.get("GpuInfo", {}).get("Gpus", [])
                found[str(told["InstanceType"])] = Capability(
                    vcpus=told["VCpuInfo"]["DefaultVCpus"],
                    memory_gib=told["MemoryInfo"]["SizeInMiB"] / _MIB_PER_GIB,
                    accelerator=gpus[0]["Name"] if gpus else None,
                    num_accelerators=sum(gpu["Count"] for gpu in gpus),
                )
        return found

    def _on_demand_usd(self, instance_type: str) -> float:
        terms = {
            "instanceType": instance_type,
            "regionCode": self._region,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
        }
        reply = self._pricing.get_products(
            ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()],
        )
        prices = {
            float(dimension["pricePerUnit"]["USD"])
            for product in map(json.loads, reply["PriceList"])  # Each product is JSON inside a string.
            for offer in product["terms"]["OnDemand"].values()
            for dimension in offer["priceDimensions"].values()
        }
        if len(prices) != 1:
            told = ", ".join(str(price) for price in sorted(prices)) or "none"
            raise OperationError(
                f"the price list should have one on-demand price of {instance_type} in {self._region}, and has {told}"
            )
        return prices.pop()
