from dataclasses import fields
from typing import Any

import pytest

from spotkeeper.contract.handover import RunView, run_view
from spotkeeper.contract.ledger import LIVE_STATES, RunState
from spotkeeper.policy.standby import StandbyView


def item(**changes: Any) -> dict[str, Any]:
    return {"pk": {"S": "RUN#digits"}, "state": {"S": "running"}, "submission": {"N": "2"}, **changes}


def test_a_view_has_the_words_of_the_decision() -> None:
    assert set(RunView.__annotations__) == {field.name for field in fields(StandbyView)}


def test_a_run_without_a_standby() -> None:
    assert run_view(item()) == RunView(is_live=True, submission=2, standby_submission=None, has_asked=False)


def test_a_run_that_is_asked_for() -> None:
    asked = item(standby_submission={"N": "3"}, handover_asked_at={"S": "2026-11-23T10:00:00Z"})

    assert run_view(asked) == RunView(is_live=True, submission=2, standby_submission=3, has_asked=True)


@pytest.mark.parametrize("state", RunState)
def test_a_run_lives_while_a_job_of_it_may_claim(state: RunState) -> None:
    assert run_view(item(state={"S": state.value}))["is_live"] is (state in LIVE_STATES)


@pytest.mark.parametrize("field", ["cancel_requested_at", "pause_requested_at", "completion"])
def test_a_run_that_is_to_end_or_is_complete_does_not_live(field: str) -> None:
    assert not run_view(item(**{field: {"S": "2026-11-23T10:00:00Z"}}))["is_live"]


def test_no_item_is_no_run() -> None:
    assert run_view({}) == RunView(is_live=False, submission=0, standby_submission=None, has_asked=False)
