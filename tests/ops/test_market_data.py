import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from spotkeeper.ops.cli import app
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.market_data import snapshot
from spotkeeper.ops.market_data.aws import AWSPrices
from spotkeeper.ops.market_data.port import Capability, MarketData, PoolPrice
from spotkeeper.policy.pools import Pool

TODAY = date(2026, 11, 26)
REGION = "us-east-1"
WITHOUT_PRICE = json.dumps(
    {
        "read_on": "2026-11-23",
        "source": "",
        "instance_types": {},
        "prices": [
            {
                "instance_type": "x",
                "region": "r",
                "zone_id": "z",
                "on_demand_usd_per_hour": "nan",
                "spot_usd_per_hour": "1",
            }
        ],
    }
)


def client(service: str) -> Any:
    session: Any = boto3.Session(region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing")
    return session.client(service)


def product(usd: str) -> str:
    return json.dumps({"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": usd}}}}}}})


@contextmanager
def aws(*, on_demand: list[str]) -> Iterator[AWSPrices]:
    ec2, pricing = client("ec2"), client("pricing")
    of_ec2, of_pricing = Stubber(ec2), Stubber(pricing)
    of_ec2.add_response(
        "describe_instance_types",
        {
            "InstanceTypes": [
                {
                    "InstanceType": "g5.xlarge",
                    "VCpuInfo": {"DefaultVCpus": 4},
                    "MemoryInfo": {"SizeInMiB": 16384},
                    "GpuInfo": {"Gpus": [{"Name": "A10G", "Count": 1}]},
                }
            ]
        },
        {"InstanceTypes": ["g5.xlarge"]},
    )
    terms = [("instanceType", "g5.xlarge"), ("regionCode", REGION), ("operatingSystem", "Linux"),
             ("preInstalledSw", "NA"), ("tenancy", "Shared"), ("capacitystatus", "Used")]  # fmt: skip
    of_pricing.add_response(
        "get_products",
        {"PriceList": [product(usd) for usd in on_demand]},
        {
            "ServiceCode": "AmazonEC2",
            "Filters": [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms],
        },
    )
    of_ec2.add_response(
        "describe_availability_zones",
        {"AvailabilityZones": [{"ZoneName": "us-east-1a", "ZoneId": "use1-az4"}]},
        {},
    )

    def price(hour: int, usd: str, zone: str = "us-east-1a") -> dict[str, Any]:
        at = datetime(2026, 11, 26, hour, tzinfo=UTC)
        return {"AvailabilityZone": zone, "InstanceType": "g5.xlarge", "SpotPrice": usd, "Timestamp": at}

    of_ec2.add_response(
        "describe_spot_price_history",
        {"SpotPriceHistory": [price(3, "0.41"), price(7, "0.43"), price(1, "0.40"), price(2, "9", "us-east-1-atl-1a")]},
        {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": "2026-11-26"},
    )
    with of_ec2, of_pricing:
        yield AWSPrices(ec2=ec2, pricing=pricing, region=REGION)


def test_aws_is_asked_for_the_latest_spot_price_by_zone_id_and_the_one_on_demand_price() -> None:
    with aws(on_demand=["1.006"]) as source:
        data = source.read(["g5.xlarge"], today=TODAY)

    assert data.prices == (
        PoolPrice(pool=Pool("g5.xlarge", REGION, "use1-az4"), on_demand_usd_per_hour=1.006, spot_usd_per_hour=0.43),
    )
    assert data.capabilities == {
        "g5.xlarge": Capability(vcpus=4, memory_gib=16, accelerator="A10G", num_accelerators=1)
    }
    assert data.read_on == TODAY


@pytest.mark.parametrize(("on_demand", "told"), [([], "none"), (["1.0", "2.0"], "1.0, 2.0")])
def test_a_price_list_without_one_price_is_no_reason_to_guess(on_demand: list[str], told: str) -> None:
    with (
        aws(on_demand=on_demand) as source,
        pytest.raises(OperationError, match=f"of g5.xlarge in us-east-1, and has {told}"),
    ):
        source.read(["g5.xlarge"], today=TODAY)


def test_placement_scores_are_those_of_single_zones() -> None:
    ec2 = client("ec2")
    with Stubber(ec2) as stub:
        stub.add_response(
            "get_spot_placement_scores",
            {"SpotPlacementScores": [{"Region": REGION, "AvailabilityZoneId": "use1-az4", "Score": 7}]},
            {
                "InstanceTypes": ["g5.xlarge"],
                "TargetCapacity": 2,
                "SingleAvailabilityZone": True,
                "RegionNames": [REGION],
            },
        )
        scores = AWSPrices(ec2=ec2, pricing=None, region=REGION).placement_scores(["g5.xlarge"], num_instances=2)

    assert scores == {"use1-az4": 7}


def test_the_shipped_snapshot_says_when_it_was_read_and_has_what_every_price_needs() -> None:
    data = snapshot.read()

    assert data.read_on == date(2026, 11, 23)
    assert len(data.prices) == 254
    assert {price.pool.instance_type for price in data.prices} == set(data.capabilities)
    assert len({price.pool for price in data.prices}) == len(data.prices)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = snapshot.read()
    snapshot.write(tmp_path / "prices.json", data)

    assert snapshot.read(tmp_path / "prices.json") == data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "holds no prices .*JSONDecodeError"),
        ("[]", "holds no prices .*TypeError"),
        ('{"read_on": "2026-11-23", "source": "", "instance_types": {}}', "KeyError: 'prices'"),
        (
            WITHOUT_PRICE,
            "on_demand_usd_per_hour of x in z must be above 0 and at most 1000 USD an hour, got nan",
        ),
    ],
)
def test_a_file_that_holds_no_prices_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        snapshot.read(path)


def test_what_has_no_known_price_is_refused_with_what_has_one_and_how_to_get_more() -> None:
    data = snapshot.read()

    with pytest.raises(
        ValueError, match=r"no price of 'p3\.2xlarge' in us-east-1 is known; there are some of .*g5\.xlarge"
    ):
        data.of(["p3.2xlarge"], "us-east-1")
    with pytest.raises(ValueError, match=r"no prices of region 'mars-1' are known; .*spotkeeper prices --refresh"):
        data.of(["g5.xlarge"], "mars-1")
    assert isinstance(data, MarketData)
    assert {price.pool.zone_id[:4] for price in data.of(["g5.xlarge", "g6.xlarge"], "us-east-1")} == {"use1"}


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_shows_what_is_known_with_its_date() -> None:
    result = spotkeeper("prices", "--region", "us-east-1", "--instance-type", "g5.xlarge")

    lines = result.stdout.splitlines()
    assert all("g5.xlarge" in line and "1 x A10G" in line for line in lines[1:])
    assert "read on 2026-11-23" in result.stderr
    told = json.loads(spotkeeper("prices", "--region", "us-east-1", "--instance-type", "g5.xlarge", "--json").stdout)
    assert len(told["prices"]) == len(lines) - 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--instance-type", "g5.xlarge", "--instance-type", "m5.xlarge"), "no price of 'm5.xlarge' is known; there"),
        (("--instance-type", "m5.xlarge", "--region", "us-east-1"), "no price of 'm5.xlarge' in us-east-1 is known"),
        (("--region", "mars-1"), "no prices of region 'mars-1' are known"),
    ],
)
def test_the_command_names_what_has_no_known_price(words: tuple[str, ...], told: str) -> None:
    result = spotkeeper("prices", *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_without_a_type_and_a_region_every_known_price_is_shown() -> None:
    told = json.loads(spotkeeper("prices", "--json").stdout)

    assert len(told["prices"]) == len(snapshot.read().prices)


def test_a_type_of_sagemaker_is_answered_by_where_its_prices_are() -> None:
    for words in (("prices",), ("prices", "--refresh", "prices.json", "--region", "us-east-1")):
        result = spotkeeper(*words, "--instance-type", "ml.g5.xlarge")

        assert result.exit_code == 2
        assert "'ml.g5.xlarge' is a type of SageMaker, and these prices are EC2's" in result.stderr


def test_a_refresh_of_everything_is_refused() -> None:
    result = spotkeeper("prices", "--refresh", "prices.json")

    assert result.exit_code == 2
    assert "--refresh needs --region and at least one --instance-type" in result.stderr
