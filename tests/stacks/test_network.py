from dataclasses import replace

import aws_cdk as cdk
from aws_cdk import assertions

from stacks.environments import DEV, ENVIRONMENTS
from stacks.network import NetworkStack
from tests.stacks.synthesized import Assembly


def test_each_zone_of_the_settings_has_one_public_subnet(any_environment: Assembly) -> None:
    subnets = any_environment.resources("network", "AWS::EC2::Subnet").values()

    zones = ENVIRONMENTS[any_environment.environment].availability_zones
    assert [subnet["Properties"]["AvailabilityZone"] for subnet in subnets] == list(zones)
    assert {subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets} == {True}


def test_there_is_a_way_out_and_no_nat_gateway(dev: Assembly) -> None:
    routes = [route["Properties"] for route in dev.resources("network", "AWS::EC2::Route").values()]

    assert len(routes) == len(DEV.availability_zones)
    assert {route["DestinationCidrBlock"] for route in routes} == {"0.0.0.0/0"}
    assert all("GatewayId" in route for route in routes)
    assert not dev.resources("network", "AWS::EC2::NatGateway")


def test_checkpoints_and_ledger_go_through_gateway_endpoints_of_every_subnet(dev: Assembly) -> None:
    endpoints = [item["Properties"] for item in dev.resources("network", "AWS::EC2::VPCEndpoint").values()]
    tables = set(dev.resources("network", "AWS::EC2::RouteTable"))

    assert {endpoint["VpcEndpointType"] for endpoint in endpoints} == {"Gateway"}
    services = {dev.resolved("network", endpoint["ServiceName"]).rpartition(".")[2] for endpoint in endpoints}
    assert services == {"s3", "dynamodb"}
    for endpoint in endpoints:
        assert {table["Ref"] for table in endpoint["RouteTableIds"]} == tables


def test_adding_a_zone_leaves_the_existing_subnets_alone() -> None:
    def subnets(zones: tuple[str, ...]) -> dict[str, str]:
        stack = NetworkStack(cdk.App(), "network", environment=replace(DEV, availability_zones=zones))
        found = assertions.Template.from_stack(stack).find_resources("AWS::EC2::Subnet")
        return {id_: subnet["Properties"]["CidrBlock"] for id_, subnet in found.items()}

    before = subnets(("us-east-1a", "us-east-1b"))
    after = subnets(("us-east-1a", "us-east-1b", "us-east-1c"))

    assert before.items() < after.items()
