from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.overdue import is_drought, overdue
from spotkeeper.control.run import Lack
from spotkeeper.policy.placement import Terms
from tests.control.fakes import new_run
from tests.control.training import SPOT

TERMS = Terms(
    fallback_after_seconds=1800,
    segment_seconds=14_400,
    standby_after_seconds=900,
    standby_age_seconds=1200,
    standby_patience_seconds=1800,
)
NOW = "2026-11-23T19:00:00+00:00"
EARLY = "2026-11-23T12:00:00+00:00"


def waiting(run_id: str, since: str, **changes: object) -> dict[str, object]:
    return {"run_id": run_id, "state": RunState.WAITING, "created_at": since, **changes}


def test_a_run_that_has_no_machine_beyond_the_limit_is_named_with_its_reason() -> None:
    facts: list[dict[str, object]] = [
        waiting("long", "2026-11-23T18:29:59+00:00", reason="no spot capacity"),
        waiting("at-the-limit", "2026-11-23T18:30:00+00:00"),
        waiting("had-a-machine", "2026-11-23T12:00:00+00:00", dry_since="2026-11-23T18:45:00+00:00"),
        waiting("queued", EARLY, state=RunState.SUBMITTED, waits_since="2026-11-23T18:50:00+00:00", waits_why="none"),
        waiting("just-dry", EARLY, state=RunState.SUBMITTED, dry_since="2026-11-23T18:55:00+00:00"),
        waiting("dry-on-demand", EARLY, state=RunState.SUBMITTED, market="on-demand", waits_since=EARLY, waits_why="x"),
        waiting("new-on-demand", EARLY, state=RunState.SUBMITTING, market="on-demand", intent_at=NOW),
        waiting("unanswered", EARLY, state=RunState.SUBMITTING, submission=2),
        waiting("asked-again", EARLY, state=RunState.SUBMITTED, submission=3),
        waiting("running", EARLY, state=RunState.RUNNING),
        waiting(
            "retried", EARLY, state=RunState.RUNNING, waits_since="2026-11-23T18:00:00+00:00", waits_why="CAPACITY"
        ),
        waiting("just-retried", EARLY, state=RunState.RUNNING, waits_since="2026-11-23T18:55:00+00:00"),
        waiting("parked", "2026-11-23T12:00:00+00:00", state=RunState.PARKED),
    ]

    found = overdue((new_run(**fact) for fact in facts), terms=TERMS, now=NOW)  # type: ignore[arg-type]

    assert found == {
        "long": "no spot capacity",
        "queued": "its job waits for a machine (spot) since 2026-11-23T18:50:00+00:00: none",
        "dry-on-demand": f"its job waits for a machine (on-demand) since {EARLY}: x",
        "unanswered": "submission 2 has no job yet",
        "asked-again": "submission 3 has not started yet",
        "retried": "its job waits for a machine (spot) since 2026-11-23T18:00:00+00:00: CAPACITY",
    }


def test_on_sagemaker_a_machine_of_another_job_hides_no_drought() -> None:
    run = new_run(state=RunState.WAITING, lacks=Lack.CAPACITY, job_queue=SPOT)

    assert is_drought(run, last_start={SPOT: NOW}.get, terms=TERMS, now=NOW)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": RunState.SUBMITTED}, True),
        ({"state": RunState.RUNNING, "waits_since": EARLY}, True),
        ({"state": RunState.SUBMITTED, "starting_since": EARLY}, False),
        ({"state": RunState.SUBMITTED, "job_unknown_since": EARLY}, False),
        ({"state": RunState.SUBMITTING}, False),
    ],
    ids=["one type after the other", "lost its machine", "copies its image", "no such job", "a lost reply"],
)
def test_a_job_of_sagemaker_without_a_machine_waits_for_capacity_before_its_run_has_tried_all_types(
    changes: dict[str, Any], expected: bool
) -> None:
    run = new_run(job_queue=SPOT, **changes)

    assert is_drought(run, last_start=lambda _: None, terms=TERMS, now=NOW) is expected


@pytest.mark.parametrize(
    ("changes", "last_start", "expected"),
    [
        ({"state": RunState.WAITING, "lacks": Lack.CAPACITY}, None, True),
        ({"state": RunState.WAITING, "lacks": Lack.CAPACITY}, EARLY, True),
        ({"state": RunState.SUBMITTED, "num_capacity_waits": 2}, None, True),
        ({"state": RunState.RUNNING, "waits_since": EARLY, "waits_why": "CAPACITY:INSUFFICIENT"}, None, True),
        ({"state": RunState.WAITING, "lacks": Lack.CAPACITY}, "2026-11-23T18:31:00+00:00", False),
        ({"state": RunState.WAITING, "lacks": Lack.MONEY}, None, False),
        ({"state": RunState.WAITING}, None, False),
        ({"state": RunState.SUBMITTING}, None, False),
        ({"state": RunState.SUBMITTED, "waits_since": EARLY}, None, False),
        ({"state": RunState.SUBMITTED, "waits_since": EARLY, "waits_why": "MISCONFIGURATION:MAX"}, None, False),
        ({"state": RunState.SUBMITTED, "num_capacity_waits": 2, "market": "on-demand"}, None, False),
    ],
    ids=[
        "no capacity",
        "the queue got a machine long ago",
        "asked again",
        "its retry finds none",
        "a backlog: the queue gets machines",
        "money",
        "a lost reply",
        "its turn to be submitted",
        "behind others in its queue",
        "a limit of ours",
        "on-demand",
    ],
)
def test_only_who_waits_for_spot_capacity_and_nothing_else_tells_of_a_drought(
    changes: dict[str, Any], last_start: str | None, expected: bool
) -> None:
    run = new_run(**changes)

    assert is_drought(run, last_start={run.job_queue: last_start}.get, terms=TERMS, now=NOW) is expected
