"""From the last release to today: no run loses its checkpoints, its ledger, its host or its job definition."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.submit import job_request, next_submission
from tests.control.fakes import new_run
from tests.stacks.synthesized import Assembly, Template
from tests.upgrades.ledger_schema import changes, ledger_schema
from tests.upgrades.release import ROOT, accepted_losses, last_release, released_schema, released_templates
from tests.upgrades.replacement import STATEFUL, is_retained, losses

Templates = dict[str, Template]


def test_an_upgrade_from_the_last_release_takes_nothing_away(any_environment: Assembly) -> None:
    environment = any_environment.environment
    accepted = accepted_losses(environment)

    found = losses(released_templates(environment), any_environment.templates)

    lost = {f"{loss.stack}/{loss.logical_id}" for loss in found}
    assert [str(loss) for loss in found if f"{loss.stack}/{loss.logical_id}" not in accepted] == [], HINT
    assert [place for place in accepted if place not in lost] == [], "accepted, and not lost any more"
    assert [reason for reason in accepted.values() if len(reason) < 40] == []


def test_the_last_release_is_complete(any_environment: Assembly) -> None:
    released = released_templates(any_environment.environment)

    assert re.fullmatch(r"\d+\.\d+\.\d+", last_release().name)
    assert {"storage", "network", "batch", "recovery"} <= released.keys()
    assert losses(released, released) == []


@pytest.fixture
def upgrade(dev: Assembly) -> tuple[Templates, Templates]:
    """Today's templates of dev, and a copy of them to change."""
    return dev.templates, copy.deepcopy(dev.templates)


def first(templates: Templates, stack: str, type_: str) -> dict[str, Any]:
    """The first resource of a type."""
    found: dict[str, Any] = next(item for item in templates[stack]["Resources"].values() if item["Type"] == type_)
    return found


def put(stack: str, type_: str, path: str, value: Any) -> Callable[[Templates], None]:
    """A change of one property; `path` is dotted, and None removes it."""

    def change(templates: Templates) -> None:
        *parents, last = path.split(".")
        place = first(templates, stack, type_)["Properties"]
        for name in parents:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def rename(stack: str, type_: str) -> Callable[[Templates], None]:
    def change(templates: Templates) -> None:
        resources = templates[stack]["Resources"]
        (id_, *_) = (name for name, item in resources.items() if item["Type"] == type_)
        resources["Renamed"] = resources.pop(id_)

    return change


def remove(stack: str, type_: str) -> Callable[[Templates], None]:
    def change(templates: Templates) -> None:
        resources = templates[stack]["Resources"]
        for id_ in [name for name, item in resources.items() if item["Type"] == type_]:
            del resources[id_]

    return change


def no_longer_retain(templates: Templates) -> None:
    del first(templates, "storage", "AWS::S3::Bucket")["DeletionPolicy"]


def make_a_global_table(templates: Templates) -> None:
    first(templates, "storage", "AWS::DynamoDB::Table")["Type"] = "AWS::DynamoDB::GlobalTable"


def rename_a_stack(templates: Templates) -> None:
    templates["store"] = templates.pop("storage")


HINT = "a loss that is meant is named in releases/accepted-losses.json: CONTRIBUTING.md, A release"
CE, QUEUE, DEFINITION = (f"AWS::Batch::{name}" for name in ("ComputeEnvironment", "JobQueue", "JobDefinition"))
BUCKET, TABLE = "AWS::S3::Bucket", "AWS::DynamoDB::Table"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename("storage", TABLE), "has another logical id: today's are ['Renamed']"),
        (rename("storage", BUCKET), "has another logical id: today's are ['Renamed']"),
        (remove("storage", BUCKET), "AWS::S3::Bucket is removed"),
        (rename_a_stack, "AWS::DynamoDB::Table is removed"),
        (make_a_global_table, "is of type AWS::DynamoDB::GlobalTable"),
        (no_longer_retain, "is no longer retained"),
        (put("storage", BUCKET, "BucketName", "ours"), "because BucketName changes from None to 'ours'"),
        (put("storage", TABLE, "TableName", "ours"), "because TableName changes"),
        (put("storage", TABLE, "KeySchema", [{"AttributeName": "id", "KeyType": "HASH"}]), "because KeySchema changes"),
        (rename("batch", CE), "AWS::Batch::ComputeEnvironment is removed"),
        (put("batch", CE, "ComputeEnvironmentName", "ours"), "because ComputeEnvironmentName changes"),
        (put("batch", CE, "Type", "UNMANAGED"), "because Type changes from 'MANAGED' to 'UNMANAGED'"),
        (put("batch", CE, "Tags", {"team": "research"}), "because Tags changes"),
        (put("batch", CE, "ComputeResources.SpotIamFleetRole", "arn"), "because ComputeResources.SpotIamFleetRole"),
        (put("batch", CE, "ReplaceComputeEnvironment", None), "ReplaceComputeEnvironment must be false"),
        (put("batch", CE, "ReplaceComputeEnvironment", True), "ReplaceComputeEnvironment must be false"),
        (rename("batch", QUEUE), "AWS::Batch::JobQueue is removed"),
        (put("batch", QUEUE, "JobQueueName", "ours"), "because JobQueueName changes"),
        (put("batch", DEFINITION, "JobDefinitionName", "ours"), "because JobDefinitionName changes"),
        (put("network", "AWS::EC2::Subnet", "CidrBlock", "10.0.128.0/20"), "because CidrBlock changes"),
        (put("network", "AWS::EC2::Subnet", "AvailabilityZone", "us-east-1f"), "because AvailabilityZone changes"),
        (put("network", "AWS::EC2::VPC", "CidrBlock", "10.1.0.0/16"), "because VpcId refers to"),
    ],
)
def test_a_planted_loss_is_found(
    change: Callable[[Templates], None], told: str, upgrade: tuple[Templates, Templates]
) -> None:
    before, after = upgrade

    change(after)

    assert [str(loss) for loss in losses(before, after) if told in str(loss)], [str(x) for x in losses(before, after)]


@pytest.mark.parametrize(
    "change",
    [
        put("batch", CE, "ComputeResources.InstanceTypes", ["m7i.xlarge", "m7a.xlarge"]),
        put("batch", CE, "ComputeResources.MaxvCpus", 8),
        put("batch", CE, "ComputeResources.AllocationStrategy", "SPOT_CAPACITY_OPTIMIZED"),
        put("batch", CE, "ComputeResources.LaunchTemplate", {"LaunchTemplateId": "lt-1", "Version": "2"}),
        put("batch", QUEUE, "Priority", 2),
        put("batch", DEFINITION, "ContainerProperties.Image", "repository@sha256:0"),
        put("storage", TABLE, "BillingMode", "PROVISIONED"),
        put("storage", BUCKET, "LifecycleConfiguration", {"Rules": []}),
        remove("recovery", "AWS::Events::Rule"),
    ],
)
def test_what_is_changed_in_place_is_no_loss(
    change: Callable[[Templates], None], upgrade: tuple[Templates, Templates]
) -> None:
    before, after = upgrade

    change(after)

    assert before != after
    assert losses(before, after) == []


def test_a_compute_environment_that_batch_refuses_to_change_in_place_is_found(
    upgrade: tuple[Templates, Templates],
) -> None:
    before, after = (copy.deepcopy(templates) for templates in upgrade)
    for templates in (before, after):
        put("batch", CE, "ComputeResources.AllocationStrategy", "BEST_FIT")(templates)

    put("batch", CE, "ComputeResources.InstanceTypes", ["m7i.xlarge"])(after)

    (loss,) = losses(before, after)
    assert "refuses that for allocation strategy 'BEST_FIT'" in loss.reason


def test_everything_stateful_outlives_its_stack(any_environment: Assembly) -> None:
    stateful = {
        f"{stack}/{id_}": resource
        for stack, template in any_environment.templates.items()
        for id_, resource in template["Resources"].items()
        if resource["Type"] in STATEFUL
    }

    assert len(stateful) >= 2
    assert [place for place, resource in stateful.items() if not is_retained(resource)] == []


def test_running_jobs_outlast_every_change_of_their_hosts(any_environment: Assembly) -> None:
    environments = any_environment.resources("batch", CE).values()

    assert environments
    for item in environments:
        # AWS Batch's maximum, by botocore's model of UpdateComputeEnvironment.
        assert item["Properties"]["UpdatePolicy"] == {
            "JobExecutionTimeoutMinutes": 7200,
            "TerminateJobsOnUpdate": False,
        }
        assert item["Properties"]["ReplaceComputeEnvironment"] is False


def test_the_revision_that_a_run_is_pinned_to_stays_registered(any_environment: Assembly) -> None:
    definitions = any_environment.resources("batch", DEFINITION).values()

    assert definitions
    for item in definitions:
        assert item["Properties"]["ResourceRetentionPolicy"] == {"SkipDeregisterOnUpdate": True}
        assert (item["DeletionPolicy"], item["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_every_submission_of_a_run_names_the_revision_that_it_began_with() -> None:
    run = new_run(state=RunState.RUNNING)

    for _ in range(3):
        run = replace(run.advanced(**next_submission(run, now="2026-11-23T19:00:00+00:00")), state=RunState.RUNNING)

        assert run.submission > 1
        assert job_request(run)["jobDefinition"] == "arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3"


def unreleased_notes() -> str:
    """What docs/ledger-migrations.md says of the next release."""
    page = (ROOT / "docs" / "ledger-migrations.md").read_text()
    (section,) = re.findall(r"^## Unreleased\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert isinstance(section, str)
    return section


def test_every_change_of_the_ledger_since_the_last_release_has_a_migration_note(any_environment: Assembly) -> None:
    today = json.loads(json.dumps(ledger_schema(any_environment.templates["storage"])))
    notes = unreleased_notes()

    unnamed = [name for name in changes(released_schema(), today) if f"`{name}`" not in notes]

    assert unnamed == [], "say in docs/ledger-migrations.md, under Unreleased, what becomes of older items"


@pytest.mark.parametrize(
    ("group", "name", "value", "told"),
    [
        ("Run", "priority", "int", "Run.priority"),
        ("Run", "epoch", "str", "Run.epoch"),
        ("Run", "num_stalls", None, "Run.num_stalls"),
        ("RunState", "STUCK", "stuck", "RunState.STUCK"),
        ("keys", "run_partition", "JOB#<run_id>", "keys.run_partition"),
        ("table", "GlobalSecondaryIndexes", [], "table.GlobalSecondaryIndexes"),
    ],
)
def test_a_planted_change_of_the_ledger_is_found(group: str, name: str, value: Any, told: str, dev: Assembly) -> None:
    today = ledger_schema(dev.templates["storage"])
    changed = copy.deepcopy(today)
    if value is None:
        del changed[group][name]
    else:
        changed[group][name] = value

    assert changes(today, changed) == [told]


def test_the_schema_names_every_kind_of_record_and_key(dev: Assembly) -> None:
    schema = ledger_schema(dev.templates["storage"])

    assert {"Run", "Attempt", "HistoryEvent", "Budget", "Reservation", "SweepRecord", "OthersJob"} <= schema.keys()
    assert schema["keys"]["run_partition"] == "RUN#<run_id>"
    assert schema["RunState"]["PARKED"] == "parked"
