import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES as SNAPSHOT

from spotkeeper.contract.local_disk import has_local_disk
from stacks.instance_types import INSTANCE_TYPES


@pytest.mark.parametrize("name", [*INSTANCE_TYPES, "g4dn.xlarge", "p4d.24xlarge", "c5d.xlarge", "c5.xlarge"])
def test_a_type_has_a_disk_of_its_own_where_ec2_says_so(name: str) -> None:
    assert has_local_disk(f"ml.{name}") is SNAPSHOT[name]["InstanceStorageSupported"]
