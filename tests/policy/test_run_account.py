from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.market import Market
from spotkeeper.policy.run_account import Machine, account, sentence, total
from spotkeeper.policy.savings import BilledTime
from spotkeeper.policy.savings_split import AttemptTime, Purpose, Waste

HOUR = 3600


def machine(
    name: str,
    *,
    hours: float,
    usd: str = "0.25",
    on_demand: str = "1",
    market: Market = Market.SPOT,
    is_price_known: bool = True,
    was_taken: bool = False,
    **purposes: float,
) -> Machine:
    """Purposes in hours, by name."""
    period = BilledTime(
        seconds=Decimal(str(hours * HOUR)), usd_per_hour=Decimal(usd), on_demand_usd_per_hour=Decimal(on_demand)
    )
    return Machine(
        name=name,
        time=AttemptTime(
            market=market,
            periods=(period,),
            seconds={Purpose[purpose.upper()]: Decimal(str(part * HOUR)) for purpose, part in purposes.items()},
        ),
        was_taken=was_taken,
        is_price_known=is_price_known,
    )


def test_a_run_is_compared_with_its_useful_work_and_one_start_on_demand() -> None:
    run = account(
        [
            machine("1.1", hours=2, changeover=0.1, lost=0.4),
            machine("2.1", hours=1, usd="1", market=Market.ON_DEMAND, changeover=0.1),
        ],
        is_measured=True,
    )

    assert run.split is not None
    # 1.5 h and 0.9 h of work, and a start of 0.1 h, at $1.
    assert run.split.reference_microusd == 2_500_000
    assert run.spent_microusd == run.split.spent_microusd == 1_500_000
    assert run.split.effective == 0.4
    assert run.split.theoretical == 0.75
    assert run.split.waste_microusd[Waste.FALLBACK] == 675_000
    assert run.split.waste_microusd[Waste.LOST] == 100_000
    assert (run.fallback_seconds, run.fallback_microusd) == (Decimal(HOUR), 1_000_000)
    assert "saved 40% of 75% possible; what limits the savings most is on-demand fallback: $0.675" in sentence(run)


def test_a_run_that_cost_more_than_on_demand_says_so_in_words() -> None:
    run = account([machine("1.1", hours=1, usd="0.5", lost=0.6)], is_measured=True)

    assert sentence(run).startswith("cost $0.50, $0.40 on demand: 25% dearer, and 50% less was possible; ")


def test_without_counters_no_saving_is_claimed() -> None:
    run = account([machine("1.1", hours=2)], is_measured=False)

    assert (run.split, run.useful_seconds, run.spent_microusd) == (None, None, 500_000)
    assert run.machine_on_demand_microusd == 2_000_000
    assert sentence(run) == "cost $0.50; what it saved was not measured"


def test_a_price_that_is_not_known_makes_the_cost_an_upper_bound() -> None:
    run = account([machine("1.1", hours=1, usd="1", is_price_known=False)], is_measured=True)

    assert run.bounded == ("1.1",)
    assert sentence(run).startswith("cost at most $1.00, $1.00 on demand: saved at least 0%")


def test_an_attempt_without_any_price_is_named_and_in_no_sum() -> None:
    run = account([machine("1.1", hours=1)], unpriced=("1.2",), is_measured=True)

    assert (run.spent_microusd, run.split, run.num_attempts) == (250_000, None, 2)
    assert sentence(run).startswith(
        "what it cost is not known, as attempt 1.2 has no known price; the others cost $0.25;"
    )


def test_a_sum_without_an_attempt_that_has_no_price_is_not_told_as_the_most_that_a_run_cost() -> None:
    bounded = machine("1.1", hours=1, usd="1", is_price_known=False)
    some, none = (
        account([bounded], unpriced=("1.2",), is_measured=False),
        account([], unpriced=("1.2",), is_measured=False),
    )

    unknown = "what it cost is not known, as attempt 1.2 has no known price"
    assert sentence(some) == f"{unknown}; the others cost at most $1.00; what it saved was not measured"
    assert sentence(none) == f"{unknown}; what it saved was not measured"


def test_what_ec2_may_not_bill_is_told_apart_and_stays_in_the_cost() -> None:
    machines = [machine("1.1", hours=0.5, was_taken=True), machine("1.2", hours=1.5, was_taken=True)]

    for is_measured in (False, True):
        run = account(machines, is_measured=is_measured)
        assert (run.spent_microusd, run.maybe_free_microusd) == (500_000, 125_000)


def test_two_types_are_each_compared_with_their_own_on_demand_price() -> None:
    run = account([machine("1.1", hours=1), machine("1.2", hours=3, on_demand="2")], is_measured=True)

    assert run.split is not None
    assert run.split.reference_microusd == 7_000_000


PARTS = st.floats(0, 0.3).map(lambda part: round(part, 4))
MACHINES = st.lists(
    st.builds(
        machine,
        st.just("1.1"),
        hours=st.floats(1.2, 30).map(lambda hours: round(hours, 4)),
        usd=st.sampled_from(["0.0731", "0.25", "0.9999"]),
        market=st.sampled_from(Market),
        was_taken=st.booleans(),
        lost=PARTS,
        changeover=PARTS,
        stall=PARTS,
        other=PARTS,
    ),
    min_size=1,
    max_size=5,
)


@given(st.lists(MACHINES, min_size=1, max_size=4))
def test_of_every_run_and_of_all_together_the_waste_adds_up_to_what_was_paid(runs: list[list[Machine]]) -> None:
    accounts = [account(machines, is_measured=True) for machines in runs]

    for found in (*accounts, total(accounts)):
        assert found.split is not None
        beyond = found.split.spent_microusd - found.split.theoretical_microusd
        assert sum(found.split.waste_microusd.values()) == beyond
        assert found.split.spent_microusd == found.spent_microusd
