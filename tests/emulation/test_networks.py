"""Each network mode, and an own key, in moto: none is left out in silence."""

from dataclasses import replace
from pathlib import Path

import pytest

import app
from emulation.aws import Aws
from emulation.templates.assembly import read
from emulation.templates.deployment import Deployment
from emulation.templates.load import LoadReport, load
from stacks.environments import DEV
from stacks.network_modes import ExistingVpc, Isolated, Network
from stacks.settings import Environment

ONE_PROFILE = replace(DEV, profiles=DEV.profiles[:1])
EXISTING = ExistingVpc(
    vpc_id="vpc-0123456789abcdef0",
    subnet_ids={"us-east-1a": "subnet-0aaaaaaaaaaaaaaaa", "us-east-1b": "subnet-0bbbbbbbbbbbbbbbb"},
)


def loaded(settings: Environment, aws: Aws, folder: Path) -> tuple[Deployment, LoadReport]:
    app.assemble(settings, str(folder)).synth()
    return load(read(folder), aws, environment=settings.name)


@pytest.mark.parametrize("network", [Isolated(more_services=("sts",)), EXISTING])
def test_hosts_stand_in_the_zones_of_the_settings_in_every_mode(network: Network, aws: Aws, tmp_path: Path) -> None:
    deployment, report = loaded(replace(ONE_PROFILE, network=network), aws, tmp_path)

    zones = {compute.zones for compute in deployment.compute_environments.values()}
    assert zones == {DEV.availability_zones}
    assert not [note for note in report.skipped if note.type.startswith("AWS::EC2")]


def test_an_isolated_network_has_its_endpoints(aws: Aws, tmp_path: Path) -> None:
    loaded(replace(ONE_PROFILE, network=Isolated(more_services=("sts",))), aws, tmp_path)

    made = {
        endpoint["ServiceName"].rpartition("us-east-1.")[2]
        for endpoint in aws.ec2.describe_vpc_endpoints()["VpcEndpoints"]
    }
    assert {"s3", "dynamodb", "ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs", "sts"} == made


def test_what_stands_in_for_an_existing_vpc_is_said(aws: Aws, tmp_path: Path) -> None:
    _, report = loaded(replace(ONE_PROFILE, network=EXISTING), aws, tmp_path)

    said = [line for line in report.lines() if "stands in" in line]
    assert len(said) == 3
    assert any(f"{EXISTING.vpc_id} (AWS::EC2::VPC)" in line for line in said)
    assert any(
        "subnet-0bbbbbbbbbbbbbbbb (AWS::EC2::Subnet): an existing subnet; an empty one in us-east-1b" in line
        for line in said
    )


def test_an_own_key_is_made_and_the_ledger_is_under_it(aws: Aws, tmp_path: Path) -> None:
    deployment, _ = loaded(replace(ONE_PROFILE, has_own_key=True), aws, tmp_path)

    key = deployment.one("AWS::KMS::Key").physical_id
    assert aws.dynamodb.describe_table(TableName=deployment.one("AWS::DynamoDB::Table").physical_id)["Table"]
    assert deployment.one("AWS::DynamoDB::Table").properties["SSESpecification"]["KMSMasterKeyId"].endswith(key)
