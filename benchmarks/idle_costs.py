"""What an environment costs a month while nothing runs: python -m benchmarks.idle_costs [--write].

Priced resources are counted in the synthesized templates. A type of which nobody has said what it costs idle is
refused, so that no new resource is free by oversight. Prices stand in `idle_prices.json`, with date and source.
`--write` puts the tables into docs/costs.md; a test compares.
"""

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

# isort: split
import app  # first, because it chooses the Node that importing aws_cdk starts

# isort: split
import aws_cdk as cdk
from aws_cdk import assertions

from spotkeeper.contract import metrics
from spotkeeper.control.aws.sweep_report import report
from spotkeeper.control.survey import Survey
from spotkeeper.control.sweep import Sweep
from stacks.environments import DEV, ENVIRONMENTS
from stacks.network import NetworkStack
from stacks.network_modes import ExistingVpc, Isolated, Network, PublicEgress
from tests.stacks.synthesized import Assembly

PAGE: Final = Path(__file__).parents[1] / "docs" / "costs.md"
PRICES: Final = json.loads(Path(__file__).with_name("idle_prices.json").read_text())["prices"]

HOURS: Final = 730
"""Of a month, as AWS counts."""

POLLS: Final = 5 * 3 * 60 * HOURS
"""Requests a month of an idle event source: Lambda keeps five long polls of 20 s on a queue, and does not go down to
two where a maximum concurrency is set: docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""

SWEEP_SECONDS: Final = 1
SWEEP_GB: Final = Decimal("0.25")
SWEEP_LOG_BYTES: Final = 5_000
SWEEP_READS: Final = 10
"""Of one sweep that finds nothing: assumed, generously; together they are cents."""

_, _MEASURED = report(Sweep(), Survey())
SWEEP_METRICS: Final = sum(1 for name, value in _MEASURED.items() if value or name in metrics.STATES) + 1
"""Custom metrics that a sweep of nothing emits: what is not zero or a state, and the messages received."""

IMAGE_GB: Final = 4
"""Of the trainer image, compressed; most of it is PyTorch with CUDA. Assumed: read it in ECR."""

ADVANCED_CHARACTERS: Final = 4096
"""A longer SSM parameter is an advanced one."""

Quantities = Iterable[tuple[str, int | Decimal]]


def _endpoint(properties: Mapping[str, Any]) -> Quantities:
    if properties["VpcEndpointType"] == "Interface":
        yield "interface_endpoint_hour", len(properties["SubnetIds"]) * HOURS


def _alarm(properties: Mapping[str, Any]) -> Quantities:
    metrics = [query for query in properties.get("Metrics", ()) if "MetricStat" in query]
    yield "alarm_metric_month", len(metrics) or 1


def _parameter(properties: Mapping[str, Any]) -> Quantities:
    if properties.get("Tier") == "Advanced" or len(properties["Value"]) > ADVANCED_CHARACTERS:
        yield "advanced_parameter_month", 1


def _schedule(properties: Mapping[str, Any]) -> Quantities:
    schedule = properties.get("ScheduleExpression")
    if not schedule:
        return
    every = re.fullmatch(r"rate\((\d+) minutes?\)", schedule)
    if not every:
        raise ValueError(f"how often is {schedule!r} in a month? benchmarks/idle_costs.py reads rate(N minutes) only")
    sweeps = Decimal(HOURS * 60) / int(every[1])
    yield "lambda_request", sweeps
    yield "lambda_gb_second", sweeps * SWEEP_SECONDS * SWEEP_GB
    yield "log_ingestion_gb", sweeps * SWEEP_LOG_BYTES / 10**9
    yield "dynamodb_read", sweeps * SWEEP_READS
    yield "custom_metric_month", SWEEP_METRICS


BILLED: Final[Mapping[str, Callable[[Mapping[str, Any]], Quantities]]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": lambda _: [("composite_alarm_month", 1)],
    "AWS::CloudWatch::Dashboard": lambda _: [("dashboard_month", 1)],
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::Events::Rule": _schedule,
    "AWS::KMS::Key": lambda _: [("kms_key_month", 1)],
    "AWS::Lambda::EventSourceMapping": lambda _: [("sqs_request", POLLS)],
    "AWS::SSM::Parameter": _parameter,
}
"""Type -> what one costs while nothing runs."""

FREE: Final = frozenset(
    {
        "AWS::Batch::ComputeEnvironment",
        "AWS::Batch::JobDefinition",
        "AWS::Batch::JobQueue",
        "AWS::Batch::SchedulingPolicy",
        "AWS::Batch::ServiceEnvironment",
        "AWS::Budgets::Budget",
        "AWS::Budgets::BudgetsAction",
        "AWS::CodeBuild::Project",
        "AWS::DynamoDB::Table",
        "AWS::EC2::InternetGateway",
        "AWS::EC2::LaunchTemplate",
        "AWS::EC2::Route",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCGatewayAttachment",
        "AWS::ECR::Repository",
        "AWS::FIS::ExperimentTemplate",
        "AWS::IAM::InstanceProfile",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::OIDCProvider",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
    }
)
"""Types that are billed by what is stored in them or done with them, or never. Point-in-time recovery is billed by the
gigabyte of the table, and lifecycle rules, versions and TTL by nothing. An image is counted where a job names it."""


def quantities(resources: Iterable[Mapping[str, Any]]) -> defaultdict[str, Decimal]:
    """Return the billed quantities a month, by the name of their price, of resources with resolved properties.

    Raises:
        ValueError: if a type is in neither table.
    """
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    images = set()
    for resource in resources:
        type_, properties = resource["Type"], resource.get("Properties", {})
        if type_ not in BILLED and type_ not in FREE:
            raise ValueError(f"what does an idle {type_} cost? Add it to BILLED or FREE in benchmarks/idle_costs.py")
        for name, quantity in BILLED[type_](properties) if type_ in BILLED else ():
            found[name] += quantity
        if type_ == "AWS::Batch::JobDefinition":
            images.add(properties["ContainerProperties"]["Image"])
    found["image_gb_month"] += IMAGE_GB * len(images)
    return found


def usd(name: str, quantity: Decimal) -> Decimal:
    """Return what a quantity of something costs."""
    return quantity * Decimal(PRICES[name]["usd"])


def of_assembly(assembly: Assembly) -> defaultdict[str, Decimal]:
    """Return the billed quantities of a whole environment."""
    return quantities(
        {**resource, "Properties": assembly.resolved(stack, resource["Properties"])}
        if resource["Type"] in _WITH_REFERENCES
        else resource
        for stack, template in assembly.templates.items()
        for resource in template["Resources"].values()
    )


_WITH_REFERENCES: Final = ("AWS::Batch::JobDefinition", "AWS::SSM::Parameter")
"""Types whose cost depends on what references become: which image, how long a text."""


def total_usd(found: Mapping[str, Decimal]) -> Decimal:
    """Return the sum of a month."""
    return sum((usd(name, quantity) for name, quantity in found.items()), Decimal())


@dataclass(frozen=True, slots=True)
class Mode:
    """A row of the second table."""

    name: str
    network: Network


MODES: Final = (
    Mode("public egress", PublicEgress()),
    Mode("existing VPC (what is in it is yours already)", ExistingVpc(
        vpc_id="vpc-0123456789abcdef0",
        subnet_ids={zone: f"subnet-{index:017x}" for index, zone in enumerate(DEV.availability_zones)},
    )),
    Mode("isolated, endpoints in one zone", Isolated(endpoint_zones=1)),
    Mode("isolated, endpoints in two zones", Isolated(endpoint_zones=2)),
)  # fmt: skip


def _network_usd(network: Network) -> Decimal:
    stack = NetworkStack(cdk.App(), "network", environment=replace(DEV, network=network))
    resources = assertions.Template.from_stack(stack).to_json()["Resources"].values()
    return total_usd(quantities(resources))


def tables(assemblies: Mapping[str, Assembly]) -> str:
    """Return both tables of docs/costs.md as Markdown."""
    found = {name: of_assembly(assembly) for name, assembly in assemblies.items()}
    return "\n".join([*_by_price(found), "", *_by_mode(total_usd(found["dev"]))])


def _by_price(found: Mapping[str, defaultdict[str, Decimal]]) -> Iterator[str]:
    yield f"| billed by | price, USD | {' | '.join(found)} |"
    yield "|---|--:|" + "--:|" * len(found)
    for name, price in PRICES.items():
        if any(of[name] for of in found.values()):
            cells = (f"{usd(name, of[name]):.2f}" if of[name] else "-" for of in found.values())
            yield f"| {price['per']} | {price['usd']} | {' | '.join(cells)} |"
    yield f"| **a month** | | {' | '.join(f'**{total_usd(of):.2f}**' for of in found.values())} |"


def _by_mode(dev_usd: Decimal) -> Iterator[str]:
    rest = dev_usd - _network_usd(DEV.network)
    yield "| dev with the network | USD a month |"
    yield "|---|--:|"
    for mode in MODES:
        yield f"| {mode.name} | {rest + _network_usd(mode.network):.2f} |"


_TABLES: Final = re.compile(r"(<!-- tables -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)


def told(page: str) -> str:
    """Return the tables that a page shows."""
    found = _TABLES.search(page)
    assert found, "the page has no tables between <!-- tables --> and <!-- end -->"
    return found[2]


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/costs.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        assemblies = {}
        for name in ENVIRONMENTS:
            app.build(name, f"{folder}/{name}").synth()
            assemblies[name] = Assembly(Path(folder) / name, name)
        shown = tables(assemblies)
    if write:
        PAGE.write_text(_TABLES.sub(lambda found: found[1] + shown + found[3], PAGE.read_text()))
    else:
        print(shown)


if __name__ == "__main__":
    main()
