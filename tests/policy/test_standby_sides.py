import pytest

from spotkeeper.policy.standby import StandbyView, gives_way, is_standby, may_be_followed

HELD = StandbyView(is_live=True, submission=2, standby_submission=3, has_asked=False)
ASKED = StandbyView(is_live=True, submission=2, standby_submission=3, has_asked=True)


@pytest.mark.parametrize(
    ("view", "submission", "stays"),
    [
        (HELD, 3, True),
        (HELD, 2, False),
        (HELD, 4, False),
        (StandbyView(is_live=False, submission=2, standby_submission=3, has_asked=False), 3, False),
        (StandbyView(is_live=True, submission=2, standby_submission=None, has_asked=False), 3, False),
        (StandbyView(is_live=True, submission=3, standby_submission=3, has_asked=False), 3, False),
    ],
)
def test_a_refused_attempt_stays_if_a_live_run_waits_for_its_submission(
    view: StandbyView, submission: int, *, stays: bool
) -> None:
    assert is_standby(view, submission=submission) is stays


@pytest.mark.parametrize(("market", "may"), [("on-demand", True), ("spot", False), (None, False)])
def test_a_standby_follows_an_attempt_on_on_demand_only(market: str | None, *, may: bool) -> None:
    assert may_be_followed(market) is may


def test_the_holder_gives_way_once_asked_unless_it_is_complete() -> None:
    assert not gives_way(HELD, is_complete=False)
    assert gives_way(ASKED, is_complete=False)
    assert not gives_way(ASKED, is_complete=True)
