from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from benchmarks.idle_costs import BILLED, FREE, PAGE, PRICES, quantities, tables, told, total_usd
from stacks.environments import ENVIRONMENTS
from tests.stacks.synthesized import Assembly

BATCH_OF = {"Type": "AWS::Batch::JobDefinition", "Properties": {"ContainerProperties": {"Image": "trainer"}}}


def resource(type_: str, **properties: Any) -> dict[str, Any]:
    return {"Type": type_, "Properties": properties}


def test_the_page_shows_what_the_templates_cost_today(synthesize: Callable[[str], Assembly]) -> None:
    """If not: python -m benchmarks.idle_costs --write."""
    assert told(PAGE.read_text()) == tables({name: synthesize(name) for name in ENVIRONMENTS})


def test_an_idle_dev_costs_less_than_ten_dollars_a_month_at_list_price() -> None:
    (total,) = [line for line in told(PAGE.read_text()).splitlines() if line.startswith("| **a month**")]
    dev = Decimal(total.split("|")[3].strip(" *"))

    assert 1 < dev < 10


@pytest.mark.parametrize(
    ("resources", "expected_usd"),
    [
        ([resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"])], "14.60"),
        ([resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway")], "0"),
        ([resource("AWS::KMS::Key"), resource("AWS::KMS::Key")], "2"),
        ([resource("AWS::CloudWatch::Alarm", MetricName="x")], "0.10"),
        ([resource("AWS::CloudWatch::Alarm", Metrics=[{"Expression": "a+b"}, {"MetricStat": 1}, {"MetricStat": 2}])],
         "0.20"),
        ([resource("AWS::CloudWatch::CompositeAlarm"), resource("AWS::CloudWatch::Dashboard")], "3.50"),
        ([resource("AWS::SSM::Parameter", Value="x" * 4096), resource("AWS::SSM::Parameter", Value="x" * 4097)],
         "0.05"),
        ([resource("AWS::Events::Rule", EventPattern={})], "0"),
        ([BATCH_OF, BATCH_OF], "0.40"),
        ([resource("AWS::DynamoDB::Table"), {"Type": "AWS::IAM::Role"}], "0"),
    ],
)  # fmt: skip
def test_a_month_is_counted_by_hand(resources: list[dict[str, Any]], expected_usd: str) -> None:
    assert total_usd(quantities(resources)) == Decimal(expected_usd)


def test_a_type_of_which_nobody_has_said_what_it_costs_is_refused() -> None:
    with pytest.raises(ValueError, match="what does an idle AWS::EC2::NatGateway cost"):
        quantities([resource("AWS::EC2::NatGateway")])


def test_a_schedule_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"how often is 'cron\(0 3 \* \* \? \*\)' in a month"):
        quantities([resource("AWS::Events::Rule", ScheduleExpression="cron(0 3 * * ? *)")])


def test_no_type_is_both_billed_and_free_and_every_price_says_where_it_was_read() -> None:
    assert not FREE & BILLED.keys()
    for price in PRICES.values():
        assert Decimal(price["usd"]) > 0
        assert price["per"]
        assert price["seen"] is None or "." in price["seen"]
