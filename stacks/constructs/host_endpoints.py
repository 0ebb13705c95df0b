"""The private endpoints without which a job cannot start, run or be seen where there is no internet."""

from typing import Final

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

HOST_SERVICES: Final = {
    "ecs": "the ECS agent registers the host and reports the states of tasks",
    "ecs-agent": "the agent's control connection: over it tasks and their roles' credentials come",
    "ecs-telemetry": "the agent's telemetry connection; AWS asks for all three of ECS",
    "ecr.api": "the agent logs in to the registry",
    "ecr.dkr": "Docker reads an image's manifest; its layers come from S3, through the gateway",
    "logs": "Docker's log driver on the host writes the lines of the job",
}
"""Interface endpoint -> why a host needs it. Sources: docs.aws.amazon.com/AmazonECS/latest/developerguide/\
vpc-endpoints.html, docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html,
docs.aws.amazon.com/batch/latest/userguide/vpc-interface-endpoints.html.

Left out, with the reason: `batch`, `events`, `sqs` and `lambda`, which only functions outside of the VPC call; `sts`,
since a job's credentials come from the agent; `kms`, since S3, DynamoDB and EBS call it themselves; `ssm`, since
neither agent nor job reads parameters and hosts take no sessions; `ec2`, which the agent only asks for instance tags
when ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM says so; `monitoring`, since jobs put no metrics.
"""

SECRETS: Final = "secretsmanager"
"""The agent reads a job's secrets: needed where the environment names any."""

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
