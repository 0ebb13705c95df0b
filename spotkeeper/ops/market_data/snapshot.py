"""Prices in a file: the snapshot that ships, for offline use, and what `spotkeeper prices --refresh` writes."""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

from spotkeeper.ops.market_data.port import Capability, MarketData, PoolPrice
from spotkeeper.policy.pools import Pool

SHIPPED: Final = Path(__file__).with_name("snapshot.json")
"""254 prices of 20 instance types in four regions, read on the day that it names. Check before you rely on them."""


def read(path: Path = SHIPPED) -> MarketData:
    """Read prices.

    Raises:
        ValueError: if the file is none of prices, naming it and what is wrong.
    """
    try:
        told = json.loads(path.read_text())
        return MarketData(
            read_on=date.fromisoformat(told["read_on"]),
            source=told["source"],
            capabilities={name: Capability(**one) for name, one in told["instance_types"].items()},
            prices=tuple(_price(one) for one in told["prices"]),
        )
    except OSError as error:
        raise ValueError(f"prices {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no prices as `spotkeeper prices --refresh` writes them: {type(error).__name__}: {error}"
        ) from error


def write(path: Path, data: MarketData) -> None:
    """Write prices, one a line, so that two files can be compared."""
    lines = ",\n".join(f"  {json.dumps(_plain(price))}" for price in data.prices)
    types = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(asdict(one))}" for name, one in sorted(data.capabilities.items())
    )
    head = json.dumps({"read_on": data.read_on.isoformat(), "source": data.source}, indent=1)[:-2]
    path.write_text(f'{head},\n "instance_types": {{\n{types}\n }},\n "prices": [\n{lines}\n ]\n}}\n')


def _price(told: dict[str, Any]) -> PoolPrice:
    return PoolPrice(
        pool=Pool(told["instance_type"], told["region"], told["zone_id"]),
        on_demand_usd_per_hour=float(told["on_demand_usd_per_hour"]),
        spot_usd_per_hour=float(told["spot_usd_per_hour"]),
    )


def _plain(price: PoolPrice) -> dict[str, str]:
    return {
        **price.pool._asdict(),
        "on_demand_usd_per_hour": str(price.on_demand_usd_per_hour),
        "spot_usd_per_hour": str(price.spot_usd_per_hour),
    }
