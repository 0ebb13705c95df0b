"""Caps on everything: spot is leased by the hour, renewed while there is money, and stopped before there is none."""

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal

from spotkeeper.contract.budgets import environment_holder, run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import reserve
from spotkeeper.control.budget import Limits, OverBudget, Reservation
from spotkeeper.control.classify import OVER_BUDGET_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import resume
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.reservation import AROUND_SECONDS, LEASE_SECONDS, lease_microusd
from tests.control.fakes import NOW, TERMS, MemoryBudgets, MemoryLedger, memory_ports, new_run
from tests.control.reconciled import NORMAL, RUN, World, after

USD = MICROUSD_PER_USD
DEAREST = Decimal("2.0")
LEASE = lease_microusd(DEAREST, LEASE_SECONDS + AROUND_SECONDS)
MONTH = environment_holder("2026-11")


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

    def _require(self, reservation: Reservation, holders: Collection[str]) -> None:
        holder = run_holder(reservation.run_id)
        assert holder in holders
        raise OverBudget(holder)


def test_a_cap_that_has_money_again_when_it_is_read_needs_no_person() -> None:
    ledger = MemoryLedger()
    run = ledger.create(capped(20))

    held = reserve.spot(run, {}, ports=memory_ports(ledger, budgets=ShortForAMoment(ledger)), now=NOW)

    assert held == Held(reason=f"the budget of {run_holder(RUN)} was short just now", is_own=False)


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
