import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from emulation.aws import Aws, connect
from emulation.server import Server
from emulation.templates.deployment import Resource
from emulation.templates.nearer_deadlines import DIVIDED, SHORTEST_PATIENCE_SECONDS, bring_nearer
from spotkeeper.contract.descriptor import Descriptor, Placement
from spotkeeper.contract.handover import POLL_SECONDS
from tests.ops.deployed_environment import descriptor

NAME = "/spotkeeper/dev/descriptor"
TIMES = Placement(
    fallback_after_seconds=1800,
    segment_seconds=7200,
    standby_after_seconds=900,
    standby_age_seconds=1200,
    standby_patience_seconds=1801,
)
STORED = replace(descriptor(), placement=TIMES)


@pytest.fixture
def aws() -> Iterator[Aws]:
    server = Server(port=0, seed=0)
    try:
        yield connect(server.endpoint_url, "us-east-1")
    finally:
        server.stop()


def loaded(aws: Aws, speed: float, **properties: Any) -> tuple[Descriptor, int]:
    aws.ssm.put_parameter(Name=NAME, Type="String", Value=STORED.to_json(), Overwrite=True)
    resource = Resource(
        stack="batch",
        logical_id="Descriptor",
        type="AWS::SSM::Parameter",
        physical_id=NAME,
        properties={"Value": STORED.to_json(), **properties},
    )
    notes = bring_nearer(aws, (resource,), environment="dev", speed=speed)
    held = aws.ssm.get_parameter(Name=NAME)["Parameter"]["Value"]
    return Descriptor.from_json(held), len(notes)


def test_times_of_placement_are_divided_by_the_speed_and_all_else_stays(aws: Aws) -> None:
    held, num_notes = loaded(aws, 60)

    assert held.placement == Placement(
        fallback_after_seconds=30,
        segment_seconds=7200,
        standby_after_seconds=15,
        standby_age_seconds=20,
        standby_patience_seconds=30,
    )
    assert replace(held, placement=TIMES) == STORED
    assert num_notes == 1


def test_in_real_time_nothing_is_written_and_nothing_said(aws: Aws) -> None:
    assert loaded(aws, 1) == (STORED, 0)


def test_no_time_is_brought_below_a_second_nor_patience_below_what_a_handover_takes_in_real_time(aws: Aws) -> None:
    held, _ = loaded(aws, 100_000)

    shortest = dict.fromkeys(DIVIDED, 1) | {"standby_patience_seconds": SHORTEST_PATIENCE_SECONDS}
    assert {name: getattr(held.placement, name) for name in DIVIDED} == shortest
    assert SHORTEST_PATIENCE_SECONDS > 2 * POLL_SECONDS


def test_an_environment_without_a_descriptor_has_nothing_to_bring_nearer(aws: Aws) -> None:
    other = Resource(stack="s", logical_id="P", type="AWS::SSM::Parameter", physical_id="/other", properties={})

    assert bring_nearer(aws, (other,), environment="dev", speed=60) == ()


def test_every_time_of_placement_is_divided_but_the_limit_that_batch_keeps() -> None:
    assert set(json.loads(STORED.to_json())["placement"]) == {*DIVIDED, "segment_seconds"}
