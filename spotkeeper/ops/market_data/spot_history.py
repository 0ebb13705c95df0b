"""What spot cost in a pool at a time, from EC2's own record of the last 90 days."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

from botocore.exceptions import ClientError

from spotkeeper.ops.failure import OperationError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

KEPT_DAYS: Final = 90
"""docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-history.html"""
_REFUSALS: Final = ("UnauthorizedOperation", "AccessDenied")


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedPeriod:
    """A part of a time, at one price."""

    seconds: Decimal
    usd_per_hour: Decimal


class PriceHistory(Protocol):
    """Whatever knows what spot cost."""

    def periods(
        self, instance_type: str, availability_zone: str, *, began_at: datetime, ended_at: datetime
    ) -> tuple[PricedPeriod, ...] | None:
        """Return the prices of a pool over a time, in order; None where any of it is not known."""


class NoPriceHistory:
    """Knows nothing: the emulation has a market of its own, and tells its prices to nobody."""

    def periods(
        self,
        instance_type: str,  # noqa: ARG002
        availability_zone: str,  # noqa: ARG002
        *,
        began_at: datetime,  # noqa: ARG002
        ended_at: datetime,  # noqa: ARG002
    ) -> None:
        """Return that it is not known."""
        return


class EC2PriceHistory:
    """Asks EC2 once for all that is wanted, and keeps the answer."""

    def __init__(
        self,
        ec2: "EC2Client",
        *,
        instance_types: Collection[str],
        began_at: datetime,
        ended_at: datetime,
    ) -> None:
        """Read the record of these types.

        Raises:
            OperationError: if the caller may not ask for it.
        """
        self._prices: dict[tuple[str, str], list[tuple[datetime, Decimal]]] = {}
        if not instance_types:
            return
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=sorted(instance_types),  # type: ignore[arg-type]  # names from the metadata service
            ProductDescriptions=["Linux/UNIX"],
            # EC2 also returns the price that was in effect at the start.
            StartTime=began_at.astimezone(UTC),
            EndTime=ended_at.astimezone(UTC),
        )
        try:
            for page in pages:
                for told in page["SpotPriceHistory"]:
                    pool = (str(told["InstanceType"]), told["AvailabilityZone"])
                    self._prices.setdefault(pool, []).append((told["Timestamp"], Decimal(told["SpotPrice"])))
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith(_REFUSALS):
                raise
            raise OperationError("you may not read spot prices: allow ec2:DescribeSpotPriceHistory") from error
        for changes in self._prices.values():
            changes.sort()

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
