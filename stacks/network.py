"""Where jobs run: public subnets without a way in, and gateway endpoints instead of a NAT gateway."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.constructs.cfn_lint import accept_lint
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment


class NetworkStack(EnvironmentStack):
    """A VPC with one public subnet in each zone of the settings.

    Hosts have public addresses, as they need the ECS, ECR and logs endpoints, and a NAT gateway would cost more
    than many jobs. Nothing can reach them: their security group (see `stacks.batch`) has no ingress rule.
    Checkpoints and ledger go through gateway endpoints, which are free.
    """

    vpc: ec2.IVpc

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, **kwargs: Any) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            availability_zones=list(environment.availability_zones),
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/16"),
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Public",
                    subnet_type=ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=True,
                    # Stated, because the default divides the VPC by the number of zones: one zone more would
                    # renumber, and so replace, every subnet. 16 subnets of 4,091 addresses.
                    cidr_mask=20,
                )
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
            # Closing the default group takes a custom resource with a function of its own; nothing uses that group.
            restrict_default_security_group=False,
        )
        for subnet in vpc.public_subnets:
            # Zones are a setting: the first of whatever AWS lists would differ between accounts and over time.
            accept_lint(subnet, "W3010")
        cdk.Validations.of(vpc).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-VPC7",
                reason="Nothing can connect to these hosts, and nearly all traffic is checkpoints through the S3 "
                "endpoint; flow logs are billed by the gigabyte and tell nothing that the bucket does not.",
            )
        )
        self.vpc = vpc
