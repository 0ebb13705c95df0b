import json
from dataclasses import replace

import pytest

from spotkeeper.contract.descriptor import Descriptor, Profile

DESCRIPTOR = Descriptor(
    environment="dev",
    region="us-east-1",
    checkpoint_bucket="bucket",
    ledger_table="table",
    job_log_group="group",
    default_profile="cpu",
    profiles={
        "cpu": Profile(
            spot_queue="arn:spot",
            on_demand_queue="arn:on-demand",
            job_definition="arn:definition:3",
            vcpus=4,
            memory_mib=15_000,
            gpus=0,
        )
    },
    teams=("research", "vision"),
    data_prefixes=("s3://data/digits/",),
    max_attempt_seconds=86_400,
)


def test_a_descriptor_reads_back_as_it_was_written() -> None:
    assert Descriptor.from_json(DESCRIPTOR.to_json()) == DESCRIPTOR


def test_fields_of_a_later_release_are_ignored() -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    stored["quotas"] = {"research": 100}
    stored["profiles"]["cpu"]["efa"] = True

    assert Descriptor.from_json(json.dumps(stored)) == DESCRIPTOR


def test_a_newer_schema_version_is_refused_with_the_fix() -> None:
    newer = replace(DESCRIPTOR, version=2).to_json()

    with pytest.raises(ValueError, match=r"version 2.*install the version that deployed"):
        Descriptor.from_json(newer)


@pytest.mark.parametrize("missing", ["ledger_table", "profiles", "teams"])
def test_a_missing_field_is_named(missing: str) -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    del stored[missing]

    with pytest.raises(ValueError, match=missing):
        Descriptor.from_json(json.dumps(stored))


def test_a_missing_field_of_a_profile_is_named() -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    del stored["profiles"]["cpu"]["spot_queue"]

    with pytest.raises(ValueError, match="spot_queue"):
        Descriptor.from_json(json.dumps(stored))
