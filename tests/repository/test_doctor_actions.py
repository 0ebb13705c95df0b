"""What docs/identity.md says that the doctor asks is what it asks, and reads only."""

import re
from pathlib import Path

from policy_sentry.querying.actions import get_action_data

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "identity.md").read_text().partition("## Looking: `spotkeeper doctor`")[2]
LISTED = PAGE.split("```")[1].removeprefix("text").split()
FROM_THE_CONNECTION = {"ssm:GetParameter", "dynamodb:GetItem"}
"""Of finding the environment, and of the kill switch in the ledger."""


def test_every_action_exists_and_only_reads() -> None:
    assert sorted(LISTED) == LISTED
    for action in LISTED:
        found = get_action_data(*action.split(":"))
        assert found, f"IAM has no {action}"
        assert {each["access_level"] for each in found[action.partition(":")[0]]} <= {"Read", "List"}, action


def test_the_list_names_every_call_of_the_checks_and_no_other() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "spotkeeper" / "ops" / "doctor").glob("*.py"))
    operations = {action.partition(":")[2]: action for action in LISTED}
    called = {
        "".join(word.capitalize() for word in name.split("_"))
        for name in re.findall(r"[(\".]((?:describe|get|list|filter)_[a-z_]+)[\"(]", sources)
        if name not in ("get_paginator",)
    }

    assert {name.lower() for name in called} == {
        name.lower() for name, action in operations.items() if action not in FROM_THE_CONNECTION
    }
