import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.hazard import Lomax
from spotkeeper.policy.spot_cycles import thresholds

LIFETIME = Lomax(shape=3.0, scale_hours=3.0)
OUTAGE = Lomax(shape=3.0, scale_hours=2.0)
CHANGEOVER_HOURS = 0.25
TERMS = {"price_ratio": 3.0, "horizon_hours": 24.0}
NUM_CYCLES = 40_000


def slack_share_in_a_drawn_market(*, wait_hours: float, gate_hours: float) -> float:
    """Return the slack for an hour of work of a run that waits so long, and returns to spot so old."""
    random = Random(5)
    slack = work = 0.0

    def outage() -> float:
        return OUTAGE.quantile_hours(random.random())

    def lifetime() -> float:
        return LIFETIME.quantile_hours(random.random())

    for _ in range(NUM_CYCLES):
        away = outage()
        if away <= wait_hours:
            slack += away
            lives = lifetime()
        else:
            on_demand = away - wait_hours
            lives = lifetime()
            while lives < gate_hours:
                on_demand += lives + outage()
                lives = lifetime()
            on_demand = max(on_demand + gate_hours, CHANGEOVER_HOURS)
            slack += wait_hours + CHANGEOVER_HOURS
            work += on_demand - CHANGEOVER_HOURS
            lives -= gate_hours
        slack += min(lives, CHANGEOVER_HOURS)
        work += max(lives - CHANGEOVER_HOURS, 0.0)
    return slack / work


def test_a_rule_uses_the_slack_in_a_drawn_market_that_it_says() -> None:
    found = thresholds(
        lifetime=LIFETIME, outage=OUTAGE, changeover_hours=CHANGEOVER_HOURS, price_ratio=3.0, horizon_hours=24.0
    )
    rules = list(zip(found.slack_shares, found.waits_hours, found.gates_hours, strict=True))
    tried = [rule for rule in rules if rule[2] < 1][::4]
    assert len({wait for _, wait, _ in tried}) > 2
    for slack_share, wait_hours, gate_hours in tried:
        drawn = slack_share_in_a_drawn_market(wait_hours=wait_hours, gate_hours=gate_hours)
        assert drawn == pytest.approx(slack_share, rel=0.03)


def test_without_slack_nothing_is_waited_for_and_with_enough_of_it_everything() -> None:
    found = thresholds(
        lifetime=LIFETIME, outage=OUTAGE, changeover_hours=CHANGEOVER_HOURS, price_ratio=3.0, horizon_hours=24.0
    )
    assert found.wait_hours(0.0) == 0
    assert found.gate_hours(0.0) > 1000
    assert found.wait_hours(1000.0) > 1000
    assert found.gate_hours(1000.0) == 0


LOMAXES = st.builds(Lomax, shape=st.floats(0.5, 5), scale_hours=st.floats(0.001, 1000))


@given(LOMAXES, LOMAXES, st.floats(0, 30), st.floats(1, 20), st.floats(0, 10), st.floats(0, 10))
def test_more_slack_waits_longer_and_returns_to_younger_spot(
    lifetime: Lomax, outage: Lomax, changeover_hours: float, price_ratio: float, slack_share: float, more: float
) -> None:
    found = thresholds(
        lifetime=lifetime, outage=outage, changeover_hours=changeover_hours, price_ratio=price_ratio, horizon_hours=24.0
    )
    assert found.wait_hours(slack_share + more) >= found.wait_hours(slack_share) - 1e-9
    assert found.gate_hours(slack_share + more) <= found.gate_hours(slack_share) + 1e-6
    assert math.isfinite(found.wait_hours(slack_share))
    assert math.isfinite(found.gate_hours(slack_share))


def test_shorter_outages_need_less_slack_to_be_waited_for_all() -> None:
    needed = [
        thresholds(
            lifetime=LIFETIME,
            outage=Lomax(shape=3.0, scale_hours=scale_hours),
            changeover_hours=CHANGEOVER_HOURS,
            **TERMS,
        ).slack_shares[-1]
        for scale_hours in (8.0, 2.0, 0.5)
    ]
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] < needed[0] / 4


def test_a_longer_changeover_asks_for_older_spot() -> None:
    gates = [
        thresholds(
            lifetime=LIFETIME, outage=OUTAGE, changeover_hours=hours, price_ratio=3.0, horizon_hours=24.0
        ).gate_hours(0.1)
        for hours in (0.05, 0.2, 0.8)
    ]
    assert gates == sorted(gates)
    assert gates[0] < gates[-1]
