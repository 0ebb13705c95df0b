import json
from dataclasses import fields, replace

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
    trainer_images={"cpu": "repository@sha256:" + "a" * 64},
    max_attempt_seconds=86_400,
    runnable_limit_seconds=600,
    spot_max_vcpus=64,
    on_demand_max_vcpus=16,
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


@pytest.mark.parametrize("text", ["", "descriptor", "[1]", '"text"', "null"])
def test_what_is_no_descriptor_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a JSON object, got .*deploy the environment again"):
        Descriptor.from_json(text)


@pytest.mark.parametrize("version", [None, 0, "1", 1.5])
def test_a_descriptor_of_no_known_schema_version_is_refused(version: object) -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    stored["version"] = version

    with pytest.raises(ValueError, match=f"has version {version!r}; this spotkeeper reads version 1"):
        Descriptor.from_json(json.dumps(stored))


@pytest.mark.parametrize("missing", [field.name for field in fields(Descriptor) if field.name != "version"])
def test_a_missing_field_is_named(missing: str) -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    del stored[missing]

    with pytest.raises(ValueError, match=f"lacks the field '{missing}': deploy it again"):
        Descriptor.from_json(json.dumps(stored))


def test_a_missing_field_of_a_profile_is_named() -> None:
    stored = json.loads(DESCRIPTOR.to_json())
    del stored["profiles"]["cpu"]["spot_queue"]

    with pytest.raises(ValueError, match="spot_queue"):
        Descriptor.from_json(json.dumps(stored))
