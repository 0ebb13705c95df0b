import math
from typing import Any

import pytest

from spotkeeper.policy.pool_path import PoolSeen, choose_pool, pool_path, usd_per_work_hour
from spotkeeper.policy.replay import replay

TERMS = {"on_demand_usd_per_hour": 3.0, "gap_hours": 0.5, "changeover_hours": 0.2}


def young(*, num_losses: int) -> PoolSeen:
    return PoolSeen(age_hours=0.25, up_hours=2.0, num_losses=num_losses)


def test_of_two_pools_alike_the_cheaper_one_is_taken() -> None:
    path = pool_path([[1, 1], [1, 1]], [[1.2, 1.2], [0.9, 0.9]], **TERMS)
    assert path.pools == (1, 1)
    assert path.spot_usd_per_hour == (0.9, 0.9)


def test_a_machine_that_lives_is_not_left_for_a_price_that_does_not_pay_the_move() -> None:
    path = pool_path([[1] * 4, [0, 0, 1, 1]], [[1.0] * 4, [0.98] * 4], **TERMS)
    assert path.pools == (0, 0, 0, 0)


def test_a_machine_that_lives_is_left_for_a_price_that_pays_the_move() -> None:
    path = pool_path([[1] * 20, [1] * 20], [[1.0] * 20, [2.0] * 10 + [0.1] * 10], **TERMS)
    assert path.pools == (0,) * 10 + (1,) * 10


def test_a_lost_pool_is_replaced_in_the_same_tick() -> None:
    path = pool_path([[1, 1, 0, 0], [0, 1, 1, 0]], [[1.0] * 4, [1.1] * 4], **TERMS)
    assert path.available == (1, 1, 1, 0)
    assert path.pools == (0, 0, 1, 1)
    assert path.spot_usd_per_hour == (1.0, 1.0, 1.1, 3.0)


def test_a_pool_that_keeps_losing_machines_is_taken_after_a_calm_one_at_a_price_a_little_higher() -> None:
    choppy, calm = young(num_losses=20), young(num_losses=0)
    chosen = choose_pool([choppy, calm], [0.9, 1.0], held=None, on_demand_usd_per_hour=3.0, changeover_hours=0.2)
    assert chosen == 1


def test_without_capacity_anywhere_no_pool_is_chosen() -> None:
    pools = [PoolSeen(), PoolSeen()]
    assert choose_pool(pools, [1.0, 1.0], held=None, on_demand_usd_per_hour=3.0, changeover_hours=0.2) is None


def test_a_machine_that_will_be_gone_before_it_works_is_worth_nothing() -> None:
    terms: dict[str, Any] = {"spot_usd_per_hour": 1.0, "on_demand_usd_per_hour": 3.0, "changeover_hours": 0.5}
    assert usd_per_work_hour(0.4, **terms, is_held=False) == math.inf
    assert usd_per_work_hour(2.0, **terms, is_held=False) == pytest.approx((2 + 1.5) / 1.5)
    assert usd_per_work_hour(2.0, **terms, is_held=True) == pytest.approx((2 + 1.5) / 2)


def test_what_comes_later_changes_no_choice_before() -> None:
    first, second = [1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 1]
    prices = [[1.0] * 6, [1.1] * 6]
    whole = pool_path([first, second], prices, **TERMS)
    for ticks in range(1, 6):
        cut = pool_path([first[:ticks], second[:ticks]], [one[:ticks] for one in prices], **TERMS)
        assert cut.pools == whole.pools[:ticks]


def test_pools_of_different_length_are_refused_by_their_lengths() -> None:
    with pytest.raises(ValueError, match=r"2 pools, 2 prices, and lengths \[1, 2\]"):
        pool_path([[1, 1], [1]], [[1.0, 1.0], [1.0]], **TERMS)


def test_a_run_that_changes_its_pool_pays_a_changeover() -> None:
    terms: dict[str, Any] = {
        "on_demand_usd_per_hour": 3.0,
        "gap_seconds": 1800.0,
        "work_hours": 2.0,
        "deadline_hours": 5.0,
        "changeover_hours": 0.5,
    }
    stays = replay([1] * 10, 1.0, **terms, pools=[0] * 10)
    moves = replay([1] * 10, 1.0, **terms, pools=[0] * 3 + [1] * 7)
    assert (stays.usd, stays.num_preemptions) == (2.5, 0)
    assert (moves.usd, moves.num_preemptions) == (3.0, 1)


def test_pools_that_do_not_cover_the_trace_are_refused() -> None:
    with pytest.raises(ValueError, match="pools must have 4 ticks, as available has; got 3"):
        replay([1] * 4, 1.0, on_demand_usd_per_hour=3.0, gap_seconds=3600.0, work_hours=1.0, deadline_hours=4.0,
               changeover_hours=0.0, pools=[0, 0, 0])  # fmt: skip
