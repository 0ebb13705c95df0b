"""The private endpoints of `spotkeeper.contract.host_services`, where there is no internet."""

from typing import Final

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

GATEWAYS: Final = {
    "S3": ec2.GatewayVpcEndpointAwsService.S3,
    "DynamoDb": ec2.GatewayVpcEndpointAwsService.DYNAMODB,
}
"""Checkpoints, sources and image layers; the ledger. Gateway endpoints are free."""


class HostEndpoints(Construct):
    """Interface endpoints in some subnets, which only the hosts' security group may reach."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        vpc: ec2.Vpc,
        subnets: list[ec2.ISubnet],
        hosts: ec2.ISecurityGroup,
        services: list[str],
    ) -> None:
        super().__init__(scope, id_)
        group = ec2.SecurityGroup(
            self, "Group", vpc=vpc, description="Endpoints: HTTPS from hosts of jobs", allow_all_outbound=False
        )
        group.add_ingress_rule(hosts, ec2.Port.tcp(443), "AWS APIs")
        for service in services:
            ec2.InterfaceVpcEndpoint(
                self,
                service,
                vpc=vpc,
                service=ec2.InterfaceVpcEndpointAwsService(service),
                subnets=ec2.SubnetSelection(subnets=subnets),
                security_groups=[group],
                # The rule above, instead of one for the whole VPC.
                open=False,
                # AWS's usual names lead here, so neither agent nor program is told of it.
                private_dns_enabled=True,
            )
