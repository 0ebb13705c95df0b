from dataclasses import replace
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import assertions

import app
from stacks.environments import DEV, ENVIRONMENTS, PROD
from stacks.network import NetworkStack
from stacks.network_modes import ExistingVpc, Isolated, Network, PublicEgress
from stacks.settings import Environment
from tests.stacks.replacement import lost
from tests.stacks.synthesized import REGION, Assembly, Template

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-token-a1b2c3"
VPC = "vpc-0123456789abcdef0"
SUBNETS = {"us-east-1a": "subnet-0aaaaaaaaaaaaaaaa", "us-east-1b": "subnet-0bbbbbbbbbbbbbbbb"}


def network_of(environment: Environment) -> Template:
    stack = NetworkStack(cdk.App(), "network", environment=environment)
    template: Template = dict(assertions.Template.from_stack(stack).to_json())
    return template


def of_type(template: Template, type_: str) -> dict[str, Any]:
    return {id_: item["Properties"] for id_, item in template["Resources"].items() if item["Type"] == type_}


def interface_endpoints(template: Template) -> dict[str, dict[str, Any]]:
    """Interface endpoints by the service that they lead to."""
    return {
        endpoint["ServiceName"].removeprefix(f"com.amazonaws.{REGION}."): endpoint
        for endpoint in of_type(template, "AWS::EC2::VPCEndpoint").values()
        if endpoint["VpcEndpointType"] == "Interface"
    }


# Every mode


@pytest.mark.parametrize("network", [PublicEgress(), Isolated(), ExistingVpc(vpc_id=VPC, subnet_ids=SUBNETS)])
def test_nothing_comes_in_to_a_host(network: Network) -> None:
    template = network_of(replace(DEV, network=network))
    (hosts,) = (id_ for id_ in of_type(template, "AWS::EC2::SecurityGroup") if id_.startswith("Hosts"))

    assert "SecurityGroupIngress" not in of_type(template, "AWS::EC2::SecurityGroup")[hosts]
    into = [rule["GroupId"] for rule in of_type(template, "AWS::EC2::SecurityGroupIngress").values()]
    assert {"Fn::GetAtt": [hosts, "GroupId"]} not in into


def test_each_zone_of_the_settings_has_one_subnet(any_environment: Assembly) -> None:
    subnets = any_environment.resources("network", "AWS::EC2::Subnet").values()

    zones = ENVIRONMENTS[any_environment.environment].availability_zones
    assert [subnet["Properties"]["AvailabilityZone"] for subnet in subnets] == list(zones)


def test_there_is_no_nat_gateway(any_environment: Assembly) -> None:
    assert not any_environment.resources("network", "AWS::EC2::NatGateway")


def test_checkpoints_and_ledger_go_through_gateway_endpoints_of_every_subnet(any_environment: Assembly) -> None:
    endpoints = [
        item["Properties"]
        for item in any_environment.resources("network", "AWS::EC2::VPCEndpoint").values()
        if item["Properties"]["VpcEndpointType"] == "Gateway"
    ]
    tables = set(any_environment.resources("network", "AWS::EC2::RouteTable"))

    services = {any_environment.resolved("network", item["ServiceName"]).rpartition(".")[2] for item in endpoints}
    assert services == {"s3", "dynamodb"}
    for endpoint in endpoints:
        assert {table["Ref"] for table in endpoint["RouteTableIds"]} == tables


@pytest.mark.parametrize("network", [PublicEgress(), Isolated()])
def test_adding_a_zone_leaves_the_existing_subnets_alone(network: Network) -> None:
    def subnets(zones: tuple[str, ...]) -> dict[str, str]:
        found = of_type(network_of(replace(DEV, network=network, availability_zones=zones)), "AWS::EC2::Subnet")
        return {id_: subnet["CidrBlock"] for id_, subnet in found.items()}

    before = subnets(("us-east-1a", "us-east-1b"))
    after = subnets(("us-east-1a", "us-east-1b", "us-east-1c"))

    assert before.items() < after.items()


@pytest.mark.parametrize(("old", "new"), [(PublicEgress(), Isolated()), (Isolated(), PublicEgress())])
def test_a_change_between_public_and_isolated_keeps_vpc_subnets_and_security_group(old: Network, new: Network) -> None:
    before, after = network_of(replace(DEV, network=old)), network_of(replace(DEV, network=new))

    gone = {before["Resources"][id_]["Type"] for id_ in lost(before, after)}
    kept = {"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::RouteTable"}
    assert gone
    assert not gone & kept
    assert not [id_ for id_ in lost(before, after) if id_.startswith("Hosts")]


# Public egress


def test_dev_has_public_addresses_and_a_way_out(dev: Assembly) -> None:
    routes = [route["Properties"] for route in dev.resources("network", "AWS::EC2::Route").values()]
    subnets = dev.resources("network", "AWS::EC2::Subnet").values()

    assert len(routes) == len(DEV.availability_zones)
    assert {route["DestinationCidrBlock"] for route in routes} == {"0.0.0.0/0"}
    assert all("GatewayId" in route for route in routes)
    assert {subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets} == {True}
    assert not interface_endpoints(dev.templates["network"])


# Isolated


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_from_an_isolated_subnet_no_route_leads_out(environment: str, synthesize: Any) -> None:
    assembly: Assembly = synthesize(environment)

    assert not assembly.resources("network", "AWS::EC2::Route")
    assert not assembly.resources("network", "AWS::EC2::InternetGateway")
    subnets = assembly.resources("network", "AWS::EC2::Subnet").values()
    assert {subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets} == {False}


def test_a_host_without_internet_reaches_ecs_ecr_and_logs_by_their_usual_names(prod: Assembly) -> None:
    endpoints = interface_endpoints(prod.templates["network"])

    assert set(endpoints) == {"ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs"}
    assert all(endpoint["PrivateDnsEnabled"] is True for endpoint in endpoints.values())


def test_an_endpoint_is_reached_by_hosts_over_https_and_by_nobody_else(prod: Assembly) -> None:
    template = prod.templates["network"]
    groups = of_type(template, "AWS::EC2::SecurityGroup")
    (hosts,) = (id_ for id_ in groups if id_.startswith("Hosts"))
    (endpoints,) = (id_ for id_ in groups if id_.startswith("Endpoints"))
    (rule,) = of_type(template, "AWS::EC2::SecurityGroupIngress").values()

    assert "SecurityGroupIngress" not in groups[endpoints]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)
    assert rule["GroupId"] == {"Fn::GetAtt": [endpoints, "GroupId"]}
    assert rule["SourceSecurityGroupId"] == {"Fn::GetAtt": [hosts, "GroupId"]}
    for endpoint in interface_endpoints(template).values():
        assert endpoint["SecurityGroupIds"] == [{"Fn::GetAtt": [endpoints, "GroupId"]}]


@pytest.mark.parametrize(("environment", "zones"), [("staging", 1), ("prod", 2)])
def test_endpoints_stand_in_the_first_zones_only_because_each_zone_is_billed(
    environment: str, zones: int, synthesize: Any
) -> None:
    assembly: Assembly = synthesize(environment)
    subnets = list(assembly.resources("network", "AWS::EC2::Subnet"))

    for endpoint in interface_endpoints(assembly.templates["network"]).values():
        assert [subnet["Ref"] for subnet in endpoint["SubnetIds"]] == subnets[:zones]


def test_what_jobs_need_beside_comes_by_setting_and_secrets_by_themselves() -> None:
    settings = replace(
        PROD, secret_arns=(SECRET,), network=Isolated(endpoint_zones=1, more_services=("sts", "sagemaker.api", "logs"))
    )

    added = set(interface_endpoints(network_of(settings))) - set(interface_endpoints(network_of(PROD)))

    assert added == {"secretsmanager", "sts", "sagemaker.api"}


# An existing VPC


def test_an_existing_vpc_is_taken_by_its_ids_and_gets_nothing_but_a_security_group(tmp_path: Path) -> None:
    settings = replace(DEV, network=ExistingVpc(vpc_id=VPC, subnet_ids=SUBNETS))

    app.assemble(settings, str(tmp_path)).synth()

    assembly = Assembly(tmp_path, "dev")
    (group,) = assembly.templates["network"]["Resources"].values()
    assert (group["Type"], group["Properties"]["VpcId"]) == ("AWS::EC2::SecurityGroup", VPC)
    for hosts in assembly.resources("batch", "AWS::Batch::ComputeEnvironment").values():
        assert hosts["Properties"]["ComputeResources"]["Subnets"] == list(SUBNETS.values())


def test_subnets_follow_the_order_of_the_zones() -> None:
    turned = dict(reversed(SUBNETS.items()))
    stack = NetworkStack(
        cdk.App(), "network", environment=replace(DEV, network=ExistingVpc(vpc_id=VPC, subnet_ids=turned))
    )

    assert stack.subnet_ids == list(SUBNETS.values())


# What is refused


@pytest.mark.parametrize(
    ("mode", "fields", "expected"),
    [
        (Isolated, {"endpoint_zones": 0}, "endpoint_zones must be a whole number from 1, got 0"),
        (Isolated, {"endpoint_zones": True}, "endpoint_zones must be .* got True"),
        (Isolated, {"more_services": ("com.amazonaws.us-east-1.STS",)}, "service names such as 'sts'.* got 'com"),
        (Isolated, {"more_services": ("sts", "sts")}, "must name each once"),
        (ExistingVpc, {"vpc_id": "main", "subnet_ids": SUBNETS}, "vpc_id must be a VPC id .* got 'main'"),
        (ExistingVpc, {"vpc_id": VPC, "subnet_ids": {"us-east-1a": VPC}}, r"subnet_ids\['us-east-1a'\] must be .* got"),
        (
            ExistingVpc,
            {"vpc_id": VPC, "subnet_ids": dict.fromkeys(SUBNETS, SUBNETS["us-east-1a"])},
            "must name each subnet once",
        ),
    ],
)
def test_a_mode_that_cannot_work_is_refused_with_field_rule_and_value(
    mode: type[Any], fields: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        mode(**fields)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("public", "network must be PublicEgress.*, Isolated.* or ExistingVpc.* got 'public'"),
        (Isolated(endpoint_zones=3), "endpoint_zones must be at most 2, .* got 3"),
        (
            ExistingVpc(vpc_id=VPC, subnet_ids={"us-east-1a": SUBNETS["us-east-1a"]}),
            r"one subnet for each of .*\('us-east-1a', 'us-east-1b'\), got \('us-east-1a',\): add the subnet",
        ),
    ],
)
def test_a_network_that_does_not_fit_its_environment_is_refused(network: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(DEV, network=network).check()
