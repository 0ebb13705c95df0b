"""Stand-ins for a VPC and subnets that templates name by id and do not make: in moto nobody has made them before."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from emulation.aws import Aws
from emulation.templates.adapt import Note
from emulation.templates.assembly import StackTemplate

_ID: Final = re.compile(r"\b(?:vpc|subnet)-[0-9a-f]{8,17}\b")


def stand_in(aws: Aws, stacks: Sequence[StackTemplate]) -> tuple[tuple[StackTemplate, ...], tuple[Note, ...]]:
    """Make what the templates name; return them with the new ids in place of the old, and a note of each.

    Templates do not say in which zones existing subnets are: they get the region's zones in turn, in order of their
    first mention.
    """
    texts = [json.dumps(stack.template) for stack in stacks]
    named = list(dict.fromkeys(name for text in texts for name in _ID.findall(text)))
    if not named:
        return tuple(stacks), ()
    vpc = aws.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    zones = [zone["ZoneName"] for zone in aws.ec2.describe_availability_zones()["AvailabilityZones"]]
    made, notes = {}, []
    for index, name in enumerate(name for name in named if name.startswith("subnet-")):
        zone = zones[index % len(zones)]
        subnet = aws.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=zone)["Subnet"]
        made[name] = subnet["SubnetId"]
        notes.append(_note(name, "AWS::EC2::Subnet", f"an existing subnet; an empty one in {zone} stands in for it"))
    for name in named:
        if name not in made:
            made[name] = vpc
            notes.append(_note(name, "AWS::EC2::VPC", "an existing VPC; an empty one stands in for it"))
    changed = (_ID.sub(lambda found: made[found[0]], text) for text in texts)
    return tuple(replace(stack, template=json.loads(text)) for stack, text in zip(stacks, changed, strict=True)), tuple(
        notes
    )


def _note(name: str, type_: str, reason: str) -> Note:
    return Note(logical_id=name, type=type_, reason=reason)
