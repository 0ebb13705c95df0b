"""Spot prices from EC2's own record of the last 90 days."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from spotkeeper.control.ports import NotAllowed
from spotkeeper.control.spot_prices import PricedPeriod

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

KEPT_DAYS: Final = 90
"""docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-history.html"""
_REFUSALS: Final = ("UnauthorizedOperation", "AccessDenied")


class EC2SpotPrices:
    """Implements `spot_prices.SpotPrices`.

    Args:
        client: Returns a client of EC2. It is called when prices are asked for, which most programs never do: EC2's is
            one of the two clients that take longest to make.
    """

    def __init__(self, client: Callable[[], "EC2Client"]) -> None:
        self._client = client

    def read(self, instance_types: Collection[str], *, began_at: datetime, ended_at: datetime) -> "EC2PriceHistory":
        """Ask once for all of it, as far back as EC2 remembers."""
        pages = (
            self._client()
            .get_paginator("describe_spot_price_history")
            .paginate(
                InstanceTypes=sorted(instance_types),  # type: ignore[arg-type]  # names from the metadata service
                ProductDescriptions=["Linux/UNIX"],
                # EC2 also returns the price that was in effect at the start.
                StartTime=max(began_at, ended_at - timedelta(days=KEPT_DAYS)).astimezone(UTC),
                EndTime=ended_at.astimezone(UTC),
            )
        )
        prices: dict[tuple[str, str], list[tuple[datetime, Decimal]]] = {}
        try:
            for page in pages:
                for told in page["SpotPriceHistory"]:
                    pool = (str(told["InstanceType"]), told["AvailabilityZone"])
                    prices.setdefault(pool, []).append((told["Timestamp"], Decimal(told["SpotPrice"])))
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith(_REFUSALS):
                raise
            raise NotAllowed("spot prices may not be read: allow ec2:DescribeSpotPriceHistory") from error
        return EC2PriceHistory({pool: sorted(changes) for pool, changes in prices.items()})


class EC2PriceHistory:
    """Implements `spot_prices.PriceHistory`; holds the changes by type and zone, oldest first."""

    def __init__(self, prices: dict[tuple[str, str], list[tuple[datetime, Decimal]]]) -> None:
        self._prices = prices

    def periods(
        self, instance_type: str, availability_zone: str, *, began_at: datetime, ended_at: datetime
    ) -> tuple[PricedPeriod, ...] | None:
        """Return the prices of a pool over a time, in order; None where any of it is not known."""
        changes = self._prices.get((instance_type, availability_zone), [])
        before = [price for at, price in changes if at <= began_at]
        if not before:
            return None
        within = [(at, price) for at, price in changes if began_at < at < ended_at]
        edges = [(began_at, before[-1]), *within, (ended_at, before[-1])]
        return tuple(
            PricedPeriod(seconds=Decimal(str(round((end - start).total_seconds(), 3))), usd_per_hour=price)
            for (start, price), (end, _) in pairwise(edges)
        )
