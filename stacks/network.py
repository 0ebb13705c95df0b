"""Where jobs run: the subnets and the security group of their hosts, in the mode that the settings choose."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from spotkeeper.contract.host_services import FOR_JOBS_WITH_SECRETS, HOST_SERVICES
from stacks.constructs.cfn_lint import accept_lint
from stacks.constructs.host_endpoints import GATEWAYS, HostEndpoints
from stacks.environment_stack import EnvironmentStack
from stacks.network_modes import ExistingVpc, Isolated
from stacks.settings import Environment

_SUBNETS: Final = "Jobs"


class NetworkStack(EnvironmentStack):
    """One subnet in each zone of the settings, and a security group into which nothing comes.

    The subnets have the same ids whether they are public or isolated: an environment that changes the mode keeps them,
    and with them its compute environments.
    """

    vpc: ec2.IVpc
    subnet_ids: list[str]
    security_group_id: str

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, **kwargs: Any) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        network = environment.network
        if isinstance(network, ExistingVpc):
            vpc = self.vpc = ec2.Vpc.from_vpc_attributes(
                self, "Vpc", vpc_id=network.vpc_id, availability_zones=list(environment.availability_zones)
            )
            self.subnet_ids = [network.subnet_ids[zone] for zone in environment.availability_zones]
            self.security_group_id = self._hosts(vpc).security_group_id
            return
        own = self.vpc = self._vpc(environment)
        subnets = own.select_subnets(subnet_group_name=_SUBNETS).subnets
        hosts = self._hosts(own)
        if isinstance(network, Isolated):
            HostEndpoints(
                self,
                "Endpoints",
                vpc=own,
                subnets=subnets[: network.endpoint_zones],
                hosts=hosts,
                services=_services(environment, network),
            )
        self.subnet_ids = [subnet.subnet_id for subnet in subnets]
        self.security_group_id = hosts.security_group_id

    def _hosts(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, "Hosts", vpc=vpc, description="Hosts of jobs: nothing comes in", allow_all_outbound=True
        )

    def _vpc(self, environment: Environment) -> ec2.Vpc:
        is_isolated = isinstance(environment.network, Isolated)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            availability_zones=list(environment.availability_zones),
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/16"),
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name=_SUBNETS,
                    subnet_type=ec2.SubnetType.PRIVATE_ISOLATED if is_isolated else ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=None if is_isolated else True,
                    # Stated, because the default divides the VPC by the number of zones: one zone more would
                    # renumber, and so replace, every subnet. 16 subnets of 4,091 addresses.
                    cidr_mask=20,
                )
            ],
            gateway_endpoints={
                name: ec2.GatewayVpcEndpointOptions(service=service) for name, service in GATEWAYS.items()
            },
            # Closing the default group takes a custom resource with a function of its own; nothing uses that group.
            restrict_default_security_group=False,
        )
        for subnet in vpc.select_subnets(subnet_group_name=_SUBNETS).subnets:
            # Zones are a setting: the first of whatever AWS lists would differ between accounts and over time.
            accept_lint(subnet, "W3010")
        cdk.Validations.of(vpc).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-VPC7",
                reason="Nothing can connect to these hosts, and nearly all traffic is checkpoints through the S3 "
                "endpoint; flow logs are billed by the gigabyte and tell nothing that the bucket does not.",
            )
        )
        return vpc


def _services(environment: Environment, network: Isolated) -> list[str]:
    """Return the interface endpoints, each once, ours first."""
    for_secrets = FOR_JOBS_WITH_SECRETS if environment.secret_arns else ()
    return list(dict.fromkeys([*HOST_SERVICES, *for_secrets, *network.more_services]))
