"""The command `spotkeeper prices`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import boto3
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.market_data import snapshot
from spotkeeper.ops.market_data.aws import PRICE_LIST_REGION, AWSPrices
from spotkeeper.ops.market_data.port import MarketData, check_ec2_types

_PLAIN_WIDTH: Final = 200


def prices(
    *,
    file: Annotated[Path | None, typer.Option("--prices", help="Of this file, instead of those that ship.")] = None,
    refresh: Annotated[Path | None, typer.Option(metavar="FILE", help="Ask AWS, and write the answer there.")] = None,
    instance_type: Annotated[list[str] | None, typer.Option(help="Of these alone. Repeatable.")] = None,
    region: Annotated[str | None, typer.Option(help="Of this region alone; needed with --refresh.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what EC2's machines cost on spot and on demand, as far as it is known; or ask AWS for it.

    spotkeeper prices --refresh prices.json --region us-east-1 --instance-type g5.xlarge
    """
    check_ec2_types(instance_type or [])
    if refresh is not None:
        _refresh(refresh, instance_type or [], region)
    data = snapshot.read(refresh or file or snapshot.SHIPPED)
    found = data.of(instance_type or [], region)
    if as_json:
        plain = [
            {
                **price.pool._asdict(),
                "on_demand_usd_per_hour": price.on_demand_usd_per_hour,
                "spot_usd_per_hour": price.spot_usd_per_hour,
            }
            for price in found
        ]
        typer.echo(json.dumps({"read_on": data.read_on.isoformat(), "source": data.source, "prices": plain}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("INSTANCE TYPE", "ZONE", "ACCELERATOR", "VCPUS", "GIB"):
        table.add_column(column, no_wrap=True)
    for column in ("SPOT", "ON-DEMAND", "SAVES"):
        table.add_column(column, justify="right", no_wrap=True)
    for price in found:
        spot, on_demand = price.spot_usd_per_hour, price.on_demand_usd_per_hour
        cells = (price.pool.instance_type, price.pool.zone_id, *_capability(data, price.pool.instance_type),
                 f"{spot:.4f}", f"{on_demand:.4f}", f"{1 - spot / on_demand:.0%}")  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    typer.echo(f"USD an hour, Linux; read on {data.read_on} from {data.source}", err=True)


def _capability(data: MarketData, instance_type: str) -> tuple[str, str, str]:
    known = data.capabilities.get(instance_type)
    if known is None:
        return "?", "?", "?"
    accelerator = f"{known.num_accelerators} x {known.accelerator}" if known.accelerator else "-"
    return accelerator, str(known.vcpus), f"{known.memory_gib:g}"


def _refresh(path: Path, instance_types: list[str], region: str | None) -> None:
    if not instance_types or region is None:
        raise ValueError("--refresh needs --region and at least one --instance-type: AWS has prices of hundreds")
    if not path.parent.is_dir():
        raise OperationError(f"--refresh: there is no folder {str(path.parent)!r}")
    source = AWSPrices(
        ec2=boto3.client("ec2", region_name=region),
        pricing=boto3.client("pricing", region_name=PRICE_LIST_REGION),
        region=region,
    )
    snapshot.write(path, source.read(instance_types, today=datetime.now(UTC).date()))
    typer.echo(f"wrote {path}", err=True)
