"""Budgets on DynamoDB, and the fake that other tests believe: the same tests hold both to the same behaviour.

moto is no oracle of concurrency; what two transactions do to one another is compared with a real emulator elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.budgets import DynamoDBBudgets
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Limits, OverBudget, Reservation, Switch, SwitchedOff
from spotkeeper.control.ports import Budgets, Conflict, Ledger
from spotkeeper.control.run import Run
from spotkeeper.control.submit import next_submission
from spotkeeper.policy.placement import Market
from tests.control.fakes import NOW, ON_DEMAND_QUEUE, MemoryBudgets, MemoryLedger, new_run
from tests.control.ledger_table import TABLE, dynamodb

RUN_HOLDER, MONTH_HOLDER = "run/digits-7fq2", "environment#2026-11"


@dataclass
class Money:
    """A submitted run, and two holders with $10 for on-demand."""

    ledger: Ledger
    budgets: Budgets

    def __post_init__(self) -> None:
        self.ledger.create(new_run())
        self.run = self.ledger.advance(new_run(), state=RunState.SUBMITTED, job_id="job-1")
        for holder in (RUN_HOLDER, MONTH_HOLDER):
            self.budgets.open(Limits(fallback_microusd=10).open(holder))

    def reserve(self, run: Run | None = None, *, microusd: int = 4, **how: Any) -> Run:
        run = run or self.run
        changes = next_submission(run, now=NOW)
        made = reservation(submission=changes["submission"], microusd=microusd, **how.pop("of", {}))
        return self.budgets.reserve(run, made, switch=how.pop("switch", Switch()), **how, **changes)

    def left(self, holder: str) -> tuple[int, int, int]:
        budget = self.budgets.get(holder)
        assert budget is not None
        return budget.fallback.available, budget.fallback.reserved, budget.fallback.spent

    def total(self, holder: str) -> tuple[int, int]:
        budget = self.budgets.get(holder)
        assert budget is not None
        return budget.total.reserved, budget.total.spent


def reservation(**changes: Any) -> Reservation:
    made = Reservation(
        run_id="digits-7fq2",
        submission=2,
        market=Market.ON_DEMAND,
        microusd=4,
        holders=(RUN_HOLDER, MONTH_HOLDER),
        created_at=NOW,
        job_queue=ON_DEMAND_QUEUE,
        usd_per_hour="1.25",
    )
    return replace(made, **changes)


@pytest.fixture(params=["dynamodb", "memory"])
def money(request: pytest.FixtureRequest) -> Iterator[Money]:
    if request.param == "memory":
        ledger = MemoryLedger()
        yield Money(ledger, MemoryBudgets(ledger))
        return
    with dynamodb() as client:
        yield Money(DynamoDBLedger(client, TABLE), DynamoDBBudgets(client, TABLE))


def test_a_budget_is_opened_once(money: Money) -> None:
    assert money.budgets.open(Limits(fallback_microusd=99).open(RUN_HOLDER)).fallback.limit == 10
    assert money.budgets.get("run/nobody-1") is None
    opened = money.budgets.open(Limits().open("team/research#2026-11"))
    assert opened.total.available == UNLIMITED_MICROUSD
    assert money.budgets.get("team/research#2026-11") == opened


def test_a_budget_tells_whether_its_limits_are_a_persons_or_the_settings(money: Money) -> None:
    budget = money.budgets.open(Limits().open("team/research#2026-11"))
    assert not budget.is_set_by_person

    for is_deployed in (True, True, False):
        budget = money.budgets.set_limits(budget, fallback=budget.version, total=100, is_deployed=is_deployed)
        assert budget.is_set_by_person is not is_deployed
        assert money.budgets.get(budget.holder) == budget


def test_money_and_intent_are_one_write(money: Money) -> None:
    after = money.reserve()

    assert (after.state, after.submission) == (RunState.SUBMITTING, 2)
    assert money.ledger.get("digits-7fq2") == after
    assert money.budgets.reservations("digits-7fq2") == (reservation(),)
    assert money.left(RUN_HOLDER) == money.left(MONTH_HOLDER) == (6, 4, 0)


def test_a_holder_with_too_little_left_is_named_and_nothing_is_written(money: Money) -> None:
    budget = money.budgets.get(MONTH_HOLDER)
    assert budget is not None
    money.budgets.set_limits(budget, fallback=3, total=100)

    with pytest.raises(OverBudget) as refused:
        money.reserve()

    assert refused.value.holder == MONTH_HOLDER
    assert money.ledger.get("digits-7fq2") == money.run
    assert money.budgets.reservations("digits-7fq2") == ()
    assert money.left(RUN_HOLDER) == (10, 0, 0)


def test_an_exempt_holder_is_charged_without_being_asked(money: Money) -> None:
    money.reserve(microusd=10)
    run = money.ledger.advance(_get(money), state=RunState.SUBMITTED, job_id="job-2")
    month = money.budgets.get(MONTH_HOLDER)
    assert month is not None
    money.budgets.set_limits(month, fallback=100, total=100)

    with pytest.raises(OverBudget):
        money.reserve(run, microusd=5)
    money.reserve(run, microusd=5, exempt={RUN_HOLDER})

    assert money.left(RUN_HOLDER) == (-5, 15, 0)


def test_a_run_that_somebody_moved_reserves_nothing(money: Money) -> None:
    money.ledger.advance(money.run, cancel_requested_at=NOW)
    with pytest.raises(Conflict):
        money.reserve()
    assert money.left(RUN_HOLDER) == (10, 0, 0)


def test_a_submission_is_reserved_for_once(money: Money) -> None:
    run = money.reserve()
    again = replace(reservation(), microusd=1)
    with pytest.raises(Conflict):
        money.budgets.reserve(run, again, switch=Switch(), reason="again")
    assert money.left(RUN_HOLDER) == (6, 4, 0)


def test_a_switch_that_was_turned_since_it_was_read_stops_the_reservation(money: Money) -> None:
    read = money.budgets.switch()
    turned = money.budgets.turn(read, is_off=True, reason="month end")

    with pytest.raises(SwitchedOff):
        money.reserve(switch=read)
    with pytest.raises(Conflict):
        money.budgets.turn(read, is_off=False, reason=None)

    assert money.budgets.switch() == turned == Switch(generation=1, is_off=True, reason="month end")
    assert money.left(RUN_HOLDER) == (10, 0, 0)
    money.reserve(switch=turned)


def test_a_lease_on_spot_does_not_ask_for_the_switch(money: Money) -> None:
    money.budgets.turn(money.budgets.switch(), is_off=True, reason="month end")

    money.reserve(switch=None, of={"market": Market.SPOT})

    budget = money.budgets.get(RUN_HOLDER)
    assert budget is not None
    assert budget.total.reserved == 4


def test_settling_books_what_was_spent_and_gives_the_rest_back_once(money: Money) -> None:
    money.reserve()

    settled = money.budgets.settle(reservation(), 3, at=NOW)

    assert money.budgets.reservations("digits-7fq2") == (settled,)
    assert (settled.settled_at, settled.spent_microusd) == (NOW, 3)
    assert money.left(RUN_HOLDER) == money.left(MONTH_HOLDER) == (7, 0, 3)
    for stale in (reservation(), settled):
        with pytest.raises(Conflict):
            money.budgets.settle(stale, 3, at=NOW)
    assert money.left(RUN_HOLDER) == (7, 0, 3)


def test_what_is_not_settled_is_found_until_it_is(money: Money) -> None:
    money.reserve()
    (entry,) = money.budgets.unsettled()
    assert (entry.run_id, entry.submission, entry.created_at) == ("digits-7fq2", 2, reservation().created_at)
    assert list(money.budgets.unsettled(behind=entry)) == []
    assert money.budgets.get_many([entry, replace(entry, submission=9)]) == (reservation(),)

    settled = money.budgets.settle(reservation(), 0, at=NOW)

    assert list(money.budgets.unsettled()) == []
    assert money.budgets.get_many([entry]) == (settled,)


def test_a_lease_on_spot_does_not_touch_the_caps_of_on_demand(money: Money) -> None:
    money.reserve(of={"market": Market.SPOT})

    assert money.left(RUN_HOLDER) == (10, 0, 0)
    budget = money.budgets.get(RUN_HOLDER)
    assert budget is not None
    assert budget.total.reserved == 4


def test_a_reservation_is_extended_while_the_money_lasts(money: Money) -> None:
    money.reserve(of={"market": Market.SPOT})
    spot = reservation(market=Market.SPOT)

    longer = money.budgets.extend(spot, 6)

    assert longer.microusd == 10
    assert money.budgets.reservations("digits-7fq2") == (longer,)
    with pytest.raises(Conflict):
        money.budgets.extend(spot, 1)
    budget = money.budgets.get(MONTH_HOLDER)
    assert budget is not None
    money.budgets.set_limits(budget, fallback=10, total=12)
    with pytest.raises(OverBudget):
        money.budgets.extend(longer, 3)
    assert money.budgets.extend(longer, 2).microusd == 12
    money.budgets.settle(replace(longer, microusd=12, version=longer.version + 1), 11, at=NOW)
    budget = money.budgets.get(MONTH_HOLDER)
    assert budget is not None
    assert (budget.total.available, budget.total.reserved, budget.total.spent) == (1, 0, 11)


def test_a_reservation_is_handed_on_to_the_next_month_in_one_write(money: Money) -> None:
    next_month = "environment#2026-12"
    money.budgets.open(Limits(total_microusd=5).open(next_month))
    money.reserve(of={"market": Market.SPOT})
    spot = reservation(market=Market.SPOT)

    with pytest.raises(OverBudget) as refused:
        money.budgets.roll_over(spot, 3, holders=(RUN_HOLDER, next_month), microusd=6, at=NOW)
    assert refused.value.holder == next_month
    rolled = money.budgets.roll_over(spot, 3, holders=(RUN_HOLDER, next_month), microusd=5, at=NOW)

    assert money.budgets.reservations("digits-7fq2") == (rolled,)
    assert (rolled.microusd, rolled.booked_microusd, rolled.holders) == (5, 3, (RUN_HOLDER, next_month))
    assert money.total(MONTH_HOLDER) == (0, 3)
    assert money.total(RUN_HOLDER) == (5, 3), "the run pays for both months, and needs the money once"
    assert money.total(next_month) == (5, 0)
    with pytest.raises(Conflict):
        money.budgets.roll_over(spot, 3, holders=(RUN_HOLDER, next_month), microusd=0, at=NOW)

    settled = money.budgets.settle(rolled, 4, at=NOW)
    assert settled.cost_microusd == 7
    assert money.total(next_month) == (0, 4)
    assert money.total(RUN_HOLDER) == (0, 7)


def test_what_was_spent_beyond_a_reservation_is_booked_with_its_month_whatever_that_has_left(money: Money) -> None:
    next_month = "environment#2026-12"
    money.budgets.open(Limits(total_microusd=5).open(next_month))
    money.reserve(of={"market": Market.SPOT})
    budget = money.budgets.get(MONTH_HOLDER)
    assert budget is not None
    money.budgets.set_limits(budget, fallback=10, total=5)
    spot = reservation(market=Market.SPOT)

    rolled = money.budgets.roll_over(spot, 8, holders=(RUN_HOLDER, next_month), microusd=0, at=NOW)

    assert money.total(MONTH_HOLDER) == (0, 8)
    assert money.budgets.settle(rolled, 0, at=NOW).cost_microusd == 8


def test_a_run_that_has_no_money_twice_is_handed_on_all_the_same(money: Money) -> None:
    budget = money.budgets.get(RUN_HOLDER)
    assert budget is not None
    money.budgets.set_limits(budget, fallback=10, total=5)
    money.reserve(of={"market": Market.SPOT})

    money.budgets.roll_over(reservation(market=Market.SPOT), 1, holders=(RUN_HOLDER,), microusd=4, at=NOW)

    assert money.total(RUN_HOLDER) == (4, 1)


def test_a_cap_that_is_lowered_below_what_is_reserved_lets_nothing_new_through(money: Money) -> None:
    run = money.reserve()
    budget = money.budgets.get(RUN_HOLDER)
    assert budget is not None

    lowered = money.budgets.set_limits(budget, fallback=1, total=100)
    assert (lowered.fallback.available, lowered.fallback.reserved) == (-3, 4)
    with pytest.raises(Conflict):
        money.budgets.set_limits(budget, fallback=5, total=100)
    with pytest.raises(OverBudget):
        money.reserve(money.ledger.advance(run, state=RunState.SUBMITTED, job_id="job-2"), microusd=1)

    money.budgets.settle(reservation(), 0, at=NOW)
    assert money.left(RUN_HOLDER) == (1, 0, 0)


def _get(money: Money) -> Run:
    run = money.ledger.get("digits-7fq2")
    assert run is not None
    return run
