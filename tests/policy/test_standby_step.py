import pytest

from spotkeeper.policy.standby import Evidence, StandbyStep, StandbyView, next_step

EVIDENCE = Evidence(age_seconds=100, patience_seconds=50)
HELD = StandbyView(is_live=True, submission=2, standby_submission=3, has_asked=False)
ENDED = StandbyView(is_live=False, submission=3, standby_submission=None, has_asked=False)
ASKED = StandbyView(is_live=True, submission=2, standby_submission=3, has_asked=True)


@pytest.mark.parametrize(
    ("view", "age", "asked", "step"),
    [
        (HELD, 0, None, StandbyStep.WAIT),
        (HELD, 100, None, StandbyStep.ASK),
        (ASKED, 100, 0, StandbyStep.WAIT),
        (ASKED, 149, 49, StandbyStep.WAIT),
        (ASKED, 150, 50, StandbyStep.LEAVE),
        (HELD, 120, 20, StandbyStep.ASK),
        (StandbyView(is_live=True, submission=3, standby_submission=None, has_asked=False), 0, None, StandbyStep.CLAIM),
        (StandbyView(is_live=True, submission=2, standby_submission=4, has_asked=False), 0, None, StandbyStep.LEAVE),
        (StandbyView(is_live=True, submission=2, standby_submission=None, has_asked=False), 0, None, StandbyStep.LEAVE),
        (
            StandbyView(is_live=False, submission=3, standby_submission=None, has_asked=False),
            0,
            None,
            StandbyStep.LEAVE,
        ),
    ],
)
def test_a_standby_waits_asks_claims_or_leaves(
    view: StandbyView, age: float, asked: float | None, step: StandbyStep
) -> None:
    assert next_step(view, submission=3, age_seconds=age, asked_seconds=asked, evidence=EVIDENCE) is step
