"""Caps on everything: spot is leased by the hour, renewed while there is money, and stopped before there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from spotkeeper.contract.budgets import environment_holder, run_holder, sweep_holder, team_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import reserve
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Limits, OverBudget
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON, TWIN_REASON
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import resume
from spotkeeper.control.ports import Job, JobAttempt, JobStatus, ReplyLost
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Lack, Run
from spotkeeper.control.settle import settle
from spotkeeper.control.submit import submit
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import AROUND_SECONDS, LEASE_SECONDS, lease_microusd
from tests.control.fakes import NOW, TERMS, MemoryBatch, MemoryBudgets, MemoryLedger, memory_ports, new_run
from tests.control.reconciled import NORMAL, RUN, World, after

USD = MICROUSD_PER_USD
TYPES = ("m6a.xlarge", "m5.xlarge", "m6i.xlarge")
DEAREST = Decimal("2.0")
LEASE = lease_microusd(DEAREST, LEASE_SECONDS + AROUND_SECONDS)
MONTH = environment_holder("2026-11")


def minute_of(moment: str) -> float:
    return seconds_between(NOW, moment) / 60


def capped(usd: int) -> Run:
    return new_run(total_cap_microusd=usd * USD)


def running(usd: int) -> World:
    world = World()
    world.submit(capped(usd))
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(5)))
    return world


def test_a_run_without_a_total_cap_leases_nothing() -> None:
    world = World()
    world.submit()
    assert world.budgets.reserved == {}


def test_the_first_hour_is_leased_before_the_job_is_submitted() -> None:
    world = World()
    world.submit(capped(20))

    assert world.budgets.reserved[RUN, 1].microusd == LEASE
    assert world.budgets.budgets[run_holder(RUN)].total.reserved == LEASE
    assert world.budgets.budgets[run_holder(RUN)].fallback.reserved == 0


@dataclass
class StaleBatch(MemoryBatch):
    """Whose look-up by name shows nothing for a while."""

    is_stale: bool = True

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        return () if self.is_stale else super().find(name, queue=queue)


def test_the_lease_of_a_job_that_was_asked_for_late_is_open_until_a_look_up_must_show_the_job() -> None:
    batch = StaleBatch(lost_requests=1)
    world = World(batch=batch)
    with pytest.raises(ReplyLost):
        world.submit(capped(20))
    batch.lost_replies = 1
    assert world.look(20) is Outcome.DEFERRED
    (reservation,) = world.budgets.reservations(RUN)
    over = replace(world.run, state=RunState.SUCCEEDED)

    assert settle(over, reservation, ports=world.ports, now=after(34)) is None
    batch.is_stale = False
    assert settle(over, reservation, ports=world.ports, now=after(36)) is None
    assert batch.terminated == [("job-1", TWIN_REASON)]


def test_a_job_that_runs_when_a_total_cap_is_set_has_a_lease_from_the_next_sweep_on() -> None:
    world = World()
    world.submit()
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(5)))
    world.sweep(10)
    assert world.budgets.reserved == {}
    world.ports = replace(world.ports, terms=replace(TERMS, limits=Limits(total_microusd=20 * USD)))

    world.sweep(15)
    world.sweep(20)

    assert world.budgets.reserved[RUN, 1].microusd == LEASE
    assert world.budgets.budgets[MONTH].total.reserved == LEASE


def test_the_runs_of_a_sweep_that_are_at_work_have_leases_once_another_run_names_its_cap() -> None:
    world = World()
    world.submit(new_run(sweep="lr"))
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(1)))
    world.sweep(2)
    assert world.budgets.reserved == {}

    later = new_run("second-8gr3", sweep="lr", sweep_total_cap_microusd=20 * USD)
    submit(later, ports=world.ports, now=after(3))
    world.sweep(5)
    world.sweep(10)
    assert world.budgets.reserved[RUN, 1].holders[-1] == sweep_holder("lr")

    for minute in range(15, 24 * 60, 5):
        world.sweep(minute)
    assert ("job-1", OVER_BUDGET_REASON) in world.batch.terminated, "what it has used counts, up to the cap"
    assert world.budgets.budgets[sweep_holder("lr")].total.reserved <= 20 * USD


def test_a_run_that_cannot_pay_its_first_hour_is_parked_and_goes_on_when_its_cap_is_raised() -> None:
    world = World()

    run = world.submit(capped(1))
    assert (run.state, world.batch.requests) == (RunState.PARKED, [])
    assert run.reason is not None
    assert "the total cap of run/digits-7fq2 has $1.00 left of $1.00" in run.reason

    budget = world.budgets.budgets[run_holder(RUN)]
    world.budgets.set_limits(budget, fallback=budget.fallback.limit, total=20 * USD)
    assert resume(RUN, ports=world.ports, now=NOW).state is RunState.SUBMITTED


def test_a_run_whose_first_hour_the_month_does_not_allow_waits_for_the_next_one() -> None:
    world = World(terms=replace(TERMS, limits=Limits(total_microusd=1 * USD)))

    run = world.submit(new_run())

    assert (run.state, run.wait_until, world.batch.requests) == (RunState.WAITING, after(5), [])


class ShortForAMoment(MemoryBudgets):
    """Refuses as a holder does whose money another run gives back right after."""

    def _require(self, asked: Mapping[str, int], market: Market) -> None:
        assert (run_holder(RUN) in asked, market) == (True, Market.SPOT)
        raise OverBudget(run_holder(RUN))


def test_a_cap_that_has_money_again_when_it_is_read_needs_no_person() -> None:
    ledger = MemoryLedger()
    run = ledger.create(capped(20))

    held = reserve.spot(run, {}, ports=memory_ports(ledger, budgets=ShortForAMoment(ledger)), now=NOW)

    assert held == Held(reason=f"the budget of {run_holder(RUN)} was short just now")


def test_a_lease_is_renewed_before_it_runs_out() -> None:
    world = running(20)

    world.sweep(minute=24)
    assert world.budgets.reserved[RUN, 1].microusd == LEASE
    world.sweep(minute=29)
    assert world.budgets.reserved[RUN, 1].microusd > LEASE
    assert world.batch.terminated == []


def test_a_job_whose_lease_cannot_be_renewed_is_stopped_while_it_can_still_save_and_its_run_is_parked() -> None:
    world = running(4)
    world.sweep(minute=55)
    assert world.batch.terminated == [("job-1", OVER_BUDGET_REASON)]

    saved = JobAttempt(started_at=after(5), stopped_at=after(57), exit_code=75, status_reason=NORMAL)
    world.change("job-1", JobStatus.FAILED, saved, status_reason=OVER_BUDGET_REASON, stopped_at=after(57))
    assert world.hear("job-1", minute=58) is Outcome.PARKED
    world.sweep(minute=75)

    budget = world.budgets.budgets[run_holder(RUN)]
    assert budget.total.reserved == 0
    assert 0 < budget.total.spent <= 4 * USD


def test_many_short_attempts_use_a_lease_up_sooner() -> None:
    world = running(20)
    short = [JobAttempt(started_at=after(minute), stopped_at=after(minute + 1)) for minute in (5, 10, 15)]
    world.change("job-1", JobStatus.RUNNABLE, *short)

    world.sweep(minute=20)

    assert world.budgets.reserved[RUN, 1].microusd > LEASE


def test_every_run_of_a_sweep_is_leased_whose_cap_another_of_its_runs_has_named() -> None:
    world = World()
    submit(new_run("first-7fq2", sweep="lr", sweep_total_cap_microusd=20 * USD), ports=world.ports, now=NOW)

    submit(new_run("second-8gr3", sweep="lr"), ports=world.ports, now=NOW)

    assert world.budgets.budgets[sweep_holder("lr")].total.reserved == 2 * LEASE


@pytest.mark.parametrize("holder", [MONTH, team_holder("research", "2026-11")])
def test_a_run_is_leased_by_what_the_ledger_has_of_this_months_caps(holder: str) -> None:
    world = World()
    world.budgets.open(Limits(total_microusd=20 * USD).open(holder))

    world.submit()

    assert world.budgets.budgets[holder].total.reserved == LEASE


def test_a_run_short_of_money_for_spot_does_not_go_to_on_demand_for_want_of_capacity() -> None:
    one_price = replace(TERMS.profiles["cpu"], usd_per_hour=dict.fromkeys(TYPES, Decimal("1.0")))
    month = Limits(fallback_microusd=100 * USD, total_microusd=int(1.3 * USD))
    world = World(terms=replace(TERMS, profiles={"cpu": one_price}, limits=month))
    world.submit(new_run(fallback_cap_microusd=20 * USD))

    for minute in range(5, 180, 5):
        world.sweep(minute)

    assert (world.run.state, world.run.market, world.run.lacks) == (RunState.WAITING, "spot", Lack.MONEY)
    assert (world.run.num_capacity_waits, world.batch.requests) == (0, [])

    budget = world.budgets.budgets[MONTH]
    world.budgets.set_limits(budget, fallback=budget.fallback.limit, total=100 * USD)
    world.sweep(minute=240)
    world.give_up("job-1", minute=255)
    world.look(minute=256)
    assert world.run.wait_until == after(261), "the time without money was no drought"


def test_a_job_that_the_month_cannot_pay_is_stopped_and_its_run_waits_for_the_next_month() -> None:
    world = World(terms=replace(TERMS, limits=Limits(total_microusd=4 * USD)))
    world.submit()
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(5)))
    world.sweep(minute=55)
    assert world.batch.terminated == [("job-1", OVER_MONTH_REASON)]

    saved = JobAttempt(started_at=after(5), stopped_at=after(57), exit_code=75, status_reason=NORMAL)
    world.change("job-1", JobStatus.FAILED, saved, status_reason=OVER_MONTH_REASON, stopped_at=after(57))
    assert world.hear("job-1", minute=58) is Outcome.WAITING
    assert world.run.lacks == Lack.MONEY

    for hour in range(2, 24 * 8, 1):
        world.sweep(minute=60 * hour)
    assert (world.run.state, len(world.batch.requests)) == (RunState.SUBMITTED, 2)
    assert world.budgets.budgets[environment_holder("2026-12")].total.reserved == LEASE


def test_each_month_pays_the_hours_of_a_lease_that_are_its_own() -> None:
    world = World(terms=replace(TERMS, limits=Limits(total_microusd=100 * USD)))
    eve = "2026-11-30T23:{:02d}:00+00:00".format
    submit(new_run(total_cap_microusd=100 * USD), ports=world.ports, now=eve(20))
    world.ledger.claim(RUN, "job-1", 1)
    began = JobAttempt(started_at=eve(30))
    world.change("job-1", JobStatus.RUNNING, began)
    for hour in range(6):
        world.sweep(minute=minute_of(f"2026-12-01T0{hour}:02:00+00:00"))

    november = world.budgets.budgets[MONTH].total
    december = world.budgets.budgets[environment_holder("2026-12")].total
    assert (november.reserved, november.spent) == (0, cost_microusd(DEAREST, 1800 + AROUND_SECONDS))
    assert december.reserved >= cost_microusd(DEAREST, 5 * 3600)

    done = replace(began, stopped_at="2026-12-01T05:30:00+00:00", exit_code=1, status_reason=NORMAL)
    world.change("job-1", JobStatus.FAILED, done, status_reason=NORMAL, stopped_at=done.stopped_at)
    for clock in ("05:31", "05:55"):
        world.sweep(minute=minute_of(f"2026-12-01T{clock}:00+00:00"))
    december = world.budgets.budgets[environment_holder("2026-12")].total
    assert (december.reserved, december.spent) == (0, cost_microusd(DEAREST, 5.5 * 3600))
    assert world.budgets.budgets[run_holder(RUN)].total.spent == november.spent + december.spent
    assert world.budgets.reserved[RUN, 1].cost_microusd == november.spent + december.spent


def test_what_ended_before_the_sweeper_came_is_booked_in_its_own_month_too() -> None:
    world = World(terms=replace(TERMS, limits=Limits(total_microusd=4 * USD)))
    submit(new_run(), ports=world.ports, now="2026-11-30T23:20:00+00:00")
    world.ledger.claim(RUN, "job-1", 1)
    ran = JobAttempt(started_at="2026-11-30T23:30:00+00:00", stopped_at="2026-12-01T00:30:00+00:00", exit_code=1)
    world.change("job-1", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=ran.stopped_at)

    for clock in ("00:31", "00:50"):
        world.sweep(minute=minute_of(f"2026-12-01T{clock}:00+00:00"))

    assert world.budgets.budgets[environment_holder("2026-12")].total.spent == cost_microusd(DEAREST, 1800)


def test_a_month_that_is_spent_waits_for_the_next_one() -> None:
    terms = replace(TERMS, limits=Limits(total_microusd=4 * USD))
    world = World(terms=terms)
    world.submit(new_run())
    world.lose_host("job-1", minute=59, step=3)

    assert world.hear("job-1", minute=60) is Outcome.WAITING
    assert world.run.reason is not None
    assert MONTH in world.run.reason

    assert world.look(minute=60 * 24 * 10) is Outcome.SUBMITTED
    assert world.budgets.budgets[environment_holder("2026-12")].total.reserved == LEASE


@pytest.mark.parametrize("holder", [MONTH, team_holder("research", "2026-11")])
def test_a_total_cap_that_is_deployed_in_mid_month_is_kept_from_then_on(holder: str) -> None:
    world = World()
    world.submit()
    world.budgets.open(Limits().open(holder))  # as an earlier run on on-demand has left it
    limits = Limits(total_microusd=3 * USD)
    terms = replace(TERMS, **({"limits": limits} if holder == MONTH else {"team_limits": {"research": limits}}))
    ports = replace(world.ports, terms=terms)

    first = submit(new_run("first"), ports=ports, now=NOW)
    second = submit(new_run("second"), ports=ports, now=NOW)

    assert (first.state, second.state, second.lacks) == (RunState.SUBMITTED, RunState.WAITING, Lack.MONEY)
    assert world.budgets.budgets[holder].total.limit == 3 * USD


def test_each_cap_that_is_deployed_in_mid_month_is_kept_until_a_person_has_the_word() -> None:
    world = World()
    world.budgets.open(Limits().open(MONTH))
    limits = Limits(total_microusd=500 * USD)
    for number in range(2):
        deployed = replace(world.ports, terms=replace(TERMS, limits=limits))
        submit(new_run(f"run-{number}"), ports=deployed, now=NOW)
        assert world.budgets.budgets[MONTH].total.limit == 500 * USD
        limits = replace(limits, fallback_microusd=1 * USD)
    kept = world.budgets.budgets[MONTH]
    assert kept.fallback.limit == 1 * USD

    world.budgets.set_limits(kept, fallback=UNLIMITED_MICROUSD, total=kept.total.limit)
    submit(new_run("run-2"), ports=deployed, now=NOW)
    assert world.budgets.budgets[MONTH].fallback.limit == UNLIMITED_MICROUSD


def test_what_a_person_set_for_this_month_is_not_undone_by_a_deployment() -> None:
    world = World()
    opened = world.budgets.open(Limits(total_microusd=3 * USD).open(MONTH))
    world.budgets.set_limits(opened, fallback=opened.fallback.limit, total=UNLIMITED_MICROUSD)
    ports = replace(world.ports, terms=replace(TERMS, limits=Limits(total_microusd=3 * USD)))

    for name in ("first", "second"):
        assert submit(new_run(name), ports=ports, now=NOW).state is RunState.SUBMITTED
