"""The dry spell of the demo: what it does to the market, what is told of it, what it costs, what is promised."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from emulation.clock import Clock
from emulation.demo.bill import Item, bill
from emulation.demo.drought import Drought
from emulation.demo.market_promises import MarketEvidence, check_markets
from emulation.demo.run_jobs import RunJob, RunJobs
from emulation.demo.timeline import Row
from emulation.demo.turns import handover, shortage, turns
from emulation.ec2.market import Instance, SpotMarket
from emulation.templates.deployment import Market as Capacity
from spotkeeper.contract import tags
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.control.budget import Cap, Reservation
from spotkeeper.control.classify import WAITED_REASON, Cause
from spotkeeper.control.run import Attempt, Run
from spotkeeper.policy.placement import Market
from spotkeeper.policy.savings_split import Waste

START = datetime(2026, 1, 1, tzinfo=UTC)
PROGRESS = {"event": LogEvent.PROGRESS, "step": 7, "total": 100}


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def row(
    submission: int, market: Capacity, cause: Cause, *, seconds: tuple[float, float, float], steps: tuple[int, int]
) -> Row:
    """A row of an attempt that started, claimed and ended at these seconds."""
    start, claim, end = seconds
    attempt = Attempt(
        run_id="digits", submission=submission, attempt=1, epoch=submission, cause=cause, claimed_at=at(claim)
    )
    instance = Instance(
        id=f"i-{submission}",
        type="m6i.xlarge",
        zone="us-east-1a",
        market=market,
        usd_per_hour=0.192 if market == "on-demand" else 0.06,
        launched_at=START + timedelta(seconds=start),
        ended_at=START + timedelta(seconds=end),
    )
    return Row(
        attempt=attempt,
        instance=instance,
        start_seconds=start,
        claim_seconds=claim,
        end_seconds=end,
        first_step=steps[0],
        last_step=steps[1],
        committed_step=steps[1],
    )


ROWS = (
    row(1, "spot", Cause.HOST_LOST, seconds=(0, 1, 10), steps=(0, 60)),
    row(2, "on-demand", Cause.YIELDED, seconds=(20, 21, 40), steps=(55, 200)),
    replace(row(3, "spot", Cause.COMPLETED, seconds=(30, 42, 60), steps=(200, 400)), stood_by=True),
)
RESERVATION = Reservation(
    run_id="digits",
    submission=2,
    market=Market.ON_DEMAND,
    microusd=600_000,
    holders=("run#digits",),
    created_at=at(18),
    job_queue="queue",
    usd_per_hour="0.2",
)
SEEN = MarketEvidence(
    rows=ROWS,
    reservations=(RESERVATION,),
    cap=Cap(limit=1_000_000, available=400_000, reserved=600_000),
    submitted_at={1: START, 2: START + timedelta(seconds=19), 3: START + timedelta(seconds=29)},
    had_drought=True,
)


@pytest.fixture
def market() -> Iterator[SpotMarket]:
    with Clock() as clock:
        yield SpotMarket(clock=clock)


def has_spot(market: SpotMarket) -> bool:
    return market.launch(["m5.xlarge"], ["us-east-1a"], "spot") is not None


def test_the_drought_takes_all_spot_capacity_and_ends_with_the_first_progress_on_demand(market: SpotMarket) -> None:
    drought = Drought(market)

    drought.begin()
    seen = [
        drought.see(PROGRESS, is_on_demand=False),
        drought.see({"event": LogEvent.CLAIMED}, is_on_demand=True),
        has_spot(market),
        drought.see(PROGRESS, is_on_demand=True),
        has_spot(market),
    ]

    assert seen == [False, False, False, True, True]
    assert not drought.see(PROGRESS, is_on_demand=True)


def test_a_standby_does_not_wait_in_vain_for_the_end_of_the_drought(market: SpotMarket) -> None:
    drought = Drought(market)
    run_job = RunJob(job_id="a", submission=1, market="spot", created_at=START)

    drought.begin()
    seen = [
        drought.see_job(run_job, "RUNNABLE"),
        drought.see_job(replace(run_job, submission=2, market="on-demand"), "RUNNABLE"),
        drought.see_job(replace(run_job, submission=3), "SUBMITTED"),
        has_spot(market),
        drought.see_job(replace(run_job, submission=3), "RUNNABLE"),
        has_spot(market),
    ]

    assert seen == [False, False, False, False, True, True]


def broken(seen: MarketEvidence) -> list[str]:
    return [promise.text for promise in check_markets(seen) if not promise.is_kept]


def test_all_promises_are_kept_by_a_good_return() -> None:
    assert broken(SEEN) == []
    assert len(check_markets(SEEN)) == 5
    assert len(check_markets(replace(SEEN, had_drought=False))) == 4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": ROWS[:2]}, "it came back"),
        ({"rows": (ROWS[0], ROWS[2])}, "it went on on-demand"),
        ({"reservations": ()}, "was reserved for before"),
        ({"reservations": (replace(RESERVATION, created_at=at(19.5)),)}, "was reserved for before"),
        ({"reservations": (replace(RESERVATION, market=Market.SPOT),)}, "was reserved for before"),
        ({"cap": Cap(limit=500_000, available=-100_000, reserved=600_000)}, "within the cap of $0.50"),
        ({"rows": (*ROWS[:2], replace(ROWS[2], trained_unclaimed=True))}, "a standby waits and does not train"),
        ({"rows": (*ROWS[:2], replace(ROWS[2], first_step=199))}, "a handover loses no work"),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, Any], text: str) -> None:
    (told,) = broken(replace(SEEN, **change))

    assert text in told


def test_the_waiting_of_a_standby_is_a_charge_of_its_own_that_on_demand_would_not_have_had(market: SpotMarket) -> None:
    told = bill(ROWS, market)

    assert [(charge.attempt, charge.item, charge.time.seconds) for charge in told.charges] == [
        ("1.1", Item.SPOT, Decimal(10)),
        ("2.1", Item.ON_DEMAND, Decimal(20)),
        ("3.1", Item.STANDBY, Decimal(12)),
        ("3.1", Item.SPOT, Decimal(18)),
    ]
    assert told.usd_of(Item.STANDBY) == 12 * Decimal("0.06") / 3600
    assert told.usd_of(Item.ON_DEMAND) == 20 * Decimal("0.192") / 3600
    assert told.total.spent_usd == ((10 + 12 + 18) * Decimal("0.06") + 20 * Decimal("0.192")) / 3600
    assert told.total.on_demand_usd == (10 + 20 + 18) * Decimal("0.192") / 3600


def test_a_standby_that_never_had_the_run_is_waiting_from_end_to_end(market: SpotMarket) -> None:
    left = replace(ROWS[2], attempt=replace(ROWS[2].attempt, claimed_at=None), claim_seconds=None)

    (charge,) = bill([left], market).charges

    assert (charge.item, charge.time.seconds) == (Item.STANDBY, Decimal(30))


def test_the_bill_accounts_for_the_run_as_the_command_does(market: SpotMarket) -> None:
    def told(start: float, first: int, end: float, last: int, seconds: float) -> tuple[dict[str, Any], ...]:
        began = START.timestamp()
        counters = {"num_steps": last - first, "seconds": {"step": seconds}}
        resumed = {"event": LogEvent.RESUMED, "step": first, "at": began + start}
        return resumed, {"event": LogEvent.PROGRESS, "step": last, "at": began + end, **counters}

    rows = (
        replace(ROWS[0], told=told(2, 0, 10, 60, 6.0)),
        replace(ROWS[1], told=told(22, 55, 40, 200, 17.0)),
        replace(
            ROWS[2], told=({"event": LogEvent.STANDBY, "at": START.timestamp() + 30}, *told(43, 200, 60, 400, 16.0))
        ),
    )

    found = bill(rows, market)

    assert found.account.spent_microusd == round(found.total.spent_usd * 1_000_000)
    # Five of the first attempt's 60 steps were done again.
    assert found.account.useful_seconds == Decimal("38.5")
    assert found.account.split is not None
    assert found.account.split.waste_microusd[Waste.LOST] == round(Decimal("0.5") * Decimal("0.06") / 3600 * 1_000_000)
    assert found.account.split.waste_microusd[Waste.STANDBY] == 200


RUN = Run(
    run_id="digits",
    created_at=at(0),
    environment="dev",
    team="research",
    profile="cpu",
    market="spot",
    job_queue="queue",
    job_definition="definition:1",
    command=("python", "train.py"),
    variables={},
    attempt_seconds=3600,
    state=RunState.RUNNING,
    fallback_cap_microusd=1_000_000,
)
ON_DEMAND = replace(RUN, submission=2, market="on-demand")
FOLLOWED = replace(ON_DEMAND, standby_submission=3)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (RUN, replace(RUN, epoch=2), []),
        (RUN, ON_DEMAND, ["falls back to on-demand: $0.59 reserved of a cap of $1.00"]),
        (ON_DEMAND, FOLLOWED, ["looks for spot: submission 3 is its standby"]),
        (FOLLOWED, replace(RUN, submission=3), ["back on spot: its standby takes over"]),
        (RUN, replace(RUN, submission=2), ["submitted again on spot: submission 2"]),
        (RUN, replace(RUN, wait_until="noon", reason="no capacity"), ["waits, at most until noon: no capacity"]),
    ],
)
def test_the_turns_of_a_run_are_told_once(before: Run, after: Run, told: Sequence[str]) -> None:
    def reserved_microusd(submission: int) -> int:
        return {2: 590_000}[submission]

    assert list(turns(before, after, reserved_microusd)) == told
    assert list(turns(after, after, reserved_microusd)) == []


@pytest.mark.parametrize(
    ("detail", "is_dry", "told"),
    [
        ({"status": "RUNNABLE"}, True, "waits: its job is RUNNABLE"),
        ({"status": "RUNNABLE"}, False, None),
        ({"status": "RUNNING"}, True, None),
        (
            {"status": "FAILED", "statusReason": "Canceled by JobStateTimeLimit action due to reason: CAPACITY"},
            True,
            "AWS Batch cancels the job",
        ),
        ({"status": "FAILED", "statusReason": WAITED_REASON}, True, "Spotkeeper withdraws the job"),
        ({"status": "FAILED", "statusReason": "Essential container in task exited"}, True, None),
    ],
)
def test_what_a_job_has_to_do_with_capacity_is_told(detail: dict[str, Any], is_dry: bool, told: str | None) -> None:
    sentence = shortage(detail, is_dry=is_dry)

    assert sentence is None if told is None else (sentence or "").startswith(told)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"event": LogEvent.STANDBY}, "standby 3.1 waits on m5.xlarge us-east-1a"),
        ({"event": LogEvent.HANDOVER_ASKED}, "standby 3.1 asks for the run"),
        ({"event": LogEvent.LEFT, "reason": "the run has ended"}, "standby 3.1 leaves: the run has ended"),
        ({"event": LogEvent.YIELDED, "committed_step": 9}, "attempt 3.1 saved at step 9 and yields"),
        (PROGRESS, None),
    ],
)
def test_a_handover_is_told_from_the_lines_of_both_sides(event: dict[str, Any], told: str | None) -> None:
    assert handover(event, name="3.1", place="m5.xlarge us-east-1a") == told


def test_the_jobs_of_a_run_are_known_by_their_names() -> None:
    changes: list[tuple[int, str]] = []
    jobs = RunJobs("digits", lambda job, detail: changes.append((job.submission, detail["status"])))

    for name, job_id in (("digits-1", "a"), ("digits-1", "a"), ("other-1", "b"), ("digits-2", "c"), ("by-hand", "d")):
        jobs.see(
            {"jobName": name, "jobId": job_id, "createdAt": 0, "tags": {tags.MARKET: "spot"}, "status": "RUNNABLE"}
        )

    created_at = datetime.fromtimestamp(0, UTC)
    assert jobs.all == (
        RunJob(job_id="a", submission=1, market="spot", created_at=created_at),
        RunJob(job_id="c", submission=2, market="spot", created_at=created_at),
    )
    assert changes == [(1, "RUNNABLE"), (1, "RUNNABLE"), (2, "RUNNABLE")]
