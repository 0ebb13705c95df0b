"""Can hosts reach the services that a job needs, from each subnet in which they may start?

Read from routes and endpoints, since nothing here runs in the subnets: firewalls and network ACLs are not looked at.
"""

from collections.abc import Iterator
from typing import Any, Final

from spotkeeper.contract.host_services import FOR_JOBS_WITH_SECRETS, GATEWAY_SERVICES, HOST_SERVICES
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

_EVERYWHERE: Final = "0.0.0.0/0"


def hosts_reach_aws(examined: Examined) -> Iterator[Finding]:
    """Each subnet has gateway endpoints, and a way out or all interface endpoints of its VPC."""
    ec2 = examined.client("ec2")
    subnet_ids = sorted(
        {
            id_
            for hosts in examined.compute_environments()
            for id_ in hosts.get("computeResources", {}).get("subnets", [])
        }
    )
    if not subnet_ids:
        return
    subnets = ec2.describe_subnets(SubnetIds=subnet_ids)["Subnets"]
    for vpc_id in sorted({subnet["VpcId"] for subnet in subnets}):
        of_vpc = [{"Name": "vpc-id", "Values": [vpc_id]}]
        tables = _all(ec2, "describe_route_tables", "RouteTables", of_vpc)
        endpoints = [
            endpoint
            for endpoint in _all(ec2, "describe_vpc_endpoints", "VpcEndpoints", of_vpc)
            if endpoint["State"].lower() == "available"
        ]
        inside = [subnet["SubnetId"] for subnet in subnets if subnet["VpcId"] == vpc_id]
        yield from _missing_gateways(examined, inside, tables, endpoints)
        closed = [subnet for subnet in inside if not _has_a_way_out(_table_of(subnet, tables))]
        if closed:
            yield from _missing_interfaces(examined, vpc_id, closed, endpoints)


def _missing_gateways(
    examined: Examined, subnets: list[str], tables: list[Any], endpoints: list[Any]
) -> Iterator[Finding]:
    region = examined.descriptor.region
    for service, carries in GATEWAY_SERVICES.items():
        name = f"com.amazonaws.{region}.{service}"
        served = {id_ for endpoint in endpoints if endpoint["ServiceName"] == name for id_ in endpoint["RouteTableIds"]}
        for subnet in subnets:
            table = _table_of(subnet, tables)
            if table["RouteTableId"] not in served:
                id_ = table["RouteTableId"]
                ask = f"ec2 create-vpc-endpoint --vpc-id {table['VpcId']} --service-name {name} --route-table-ids {id_}"
                yield Finding(
                    subject=f"subnet {subnet}, gateway endpoint of {service}",
                    value="none on its route table",
                    expected=f"one, which is free: {carries} would be billed by the gigabyte, or find no way at all",
                    fix=f"{examined.aws(ask)}, or {examined.deploy} where the VPC is ours",
                )


def _missing_interfaces(examined: Examined, vpc_id: str, closed: list[str], endpoints: list[Any]) -> Iterator[Finding]:
    descriptor = examined.descriptor
    wanted = dict(HOST_SERVICES)
    if descriptor.secret_arns:
        wanted.update(dict.fromkeys(FOR_JOBS_WITH_SECRETS, "the agent reads what a job is given by ARN"))
    # Without private DNS, AWS's usual names lead to public addresses, which cannot be reached from here.
    present = {
        endpoint["ServiceName"]
        for endpoint in endpoints
        if endpoint["VpcEndpointType"] == "Interface" and endpoint.get("PrivateDnsEnabled")
    }
    for service, reason in wanted.items():
        name = f"com.amazonaws.{descriptor.region}.{service}"
        if name not in present:
            ask = f"ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc_id} --service-name {name}"
            yield Finding(
                subject=f"VPC {vpc_id}, interface endpoint of {service}",
                value="none that is available with private DNS",
                expected=f"one, since {', '.join(closed)} have no route to the internet: {reason}",
                fix=f"{examined.aws(f'{ask} --subnet-ids {closed[0]} --private-dns-enabled')}, or {examined.deploy} "
                "where the VPC is ours",
            )


def _table_of(subnet: str, tables: list[Any]) -> Any:
    """Return the route table of a subnet: its own, else the VPC's main one."""
    for table in tables:
        if any(association.get("SubnetId") == subnet for association in table["Associations"]):
            return table
    return next(table for table in tables if any(association.get("Main") for association in table["Associations"]))


def _has_a_way_out(table: Any) -> bool:
    # By an internet, NAT or transit gateway, or whatever else: where it ends, the owner of the VPC knows.
    return any(
        route.get("DestinationCidrBlock") == _EVERYWHERE and route.get("State", "active") == "active"
        for route in table["Routes"]
    )


def _all(ec2: Any, operation: str, field: str, filters: list[Any]) -> list[Any]:
    pages = ec2.get_paginator(operation).paginate(Filters=filters)
    return [found for page in pages for found in page[field]]
