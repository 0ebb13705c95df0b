from spotkeeper.contract.ledger import RunState
from spotkeeper.control.overdue import overdue
from spotkeeper.policy.placement import Terms
from tests.control.fakes import new_run

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
