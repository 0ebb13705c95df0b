"""That `replacement.lost`, by which other tests say that nothing is lost, would notice."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.stacks.replacement import lost
from tests.stacks.synthesized import Assembly, Template


def rename(template: Template) -> None:
    template["Resources"]["Checkpoints620E2F20"]["Properties"]["BucketName"] = "mine"


def move(template: Template) -> None:
    template["Resources"]["StorageCheckpoints2CDBDF43"] = template["Resources"].pop("Checkpoints620E2F20")


def other_keys(template: Template) -> None:
    template["Resources"]["LedgerB7379752"]["Properties"]["KeySchema"][0]["AttributeName"] = "id"


def another_type(template: Template) -> None:
    template["Resources"]["LedgerB7379752"]["Type"] = "AWS::DynamoDB::GlobalTable"


def another_tag(template: Template) -> None:
    template["Resources"]["LedgerB7379752"]["Properties"]["Tags"] = []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename, {"Checkpoints620E2F20": "/properties/BucketName cannot change in place"}),
        (move, {"Checkpoints620E2F20": "removed"}),
        (other_keys, {"LedgerB7379752": "/properties/KeySchema cannot change in place"}),
        (another_type, {"LedgerB7379752": "AWS::DynamoDB::Table becomes AWS::DynamoDB::GlobalTable"}),
        (another_tag, {}),
    ],
)
def test_what_cloudformation_replaces_is_named_with_the_reason(
    change: Callable[[Template], Any], expected: dict[str, str], dev: Assembly
) -> None:
    changed = copy.deepcopy(dev.templates["storage"])
    change(changed)

    assert lost(dev.templates["storage"], changed) == expected
