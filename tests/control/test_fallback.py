"""Spot gives no machine: on-demand, as far as money allows; and what becomes of the money."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from spotkeeper.contract.budgets import environment_holder, run_holder, team_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import kill_switch
from spotkeeper.control.budget import Limits
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import SWITCHED_OFF_REASON, TWIN_REASON, WAITED_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Job, JobAttempt, JobOrder, JobStatus, NotAllowed, ReplyLost, Throttled
from spotkeeper.control.run import Attempt, HistoryEvent
from spotkeeper.control.submit import CAP_CROSSED, submit
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.money import MICROUSD_PER_USD, format_usd
from spotkeeper.policy.placement import Mode
from spotkeeper.policy.reservation import AROUND_SECONDS, lease_microusd, on_demand_microusd
from tests.control.fakes import (
    NOW,
    ON_DEMAND_QUEUE,
    SPOT_QUEUE,
    TERMS,
    MemoryBatch,
    MemoryLedger,
    MemoryOthers,
    new_run,
)
from tests.control.reconciled import CAPACITY, HOST, NORMAL, RUN, World, after

USD = MICROUSD_PER_USD
MONTH = "2026-11"
DEAREST = Decimal("1.0")
SEGMENT = 3600
"""The run's own limit of an attempt is below the environment's segment."""
RESERVED = on_demand_microusd(DEAREST, SEGMENT)


ONE_HOST = lease_microusd(DEAREST, AROUND_SECONDS)


def dry(*, cap_usd: int = 20, minute: float = 31, terms: EnvironmentTerms = TERMS, **changes: Any) -> World:
    """Return a world whose run has waited in vain for spot."""
    world = World(terms=terms)
    world.submit(new_run(fallback_cap_microusd=cap_usd * USD, **changes))
    world.give_up("job-1", minute=minute)
    return world


def fallen_back(**changes: Any) -> World:
    world = dry(**changes)
    assert world.hear("job-1", minute=32) is Outcome.FELL_BACK
    return world


def test_a_run_without_spot_goes_to_on_demand_with_its_money_set_aside_first() -> None:
    world = dry()

    assert world.hear("job-1", minute=32) is Outcome.FELL_BACK

    assert world.summary == (RunState.SUBMITTED, 2)
    request = world.batch.requests[-1]
    assert (request["jobQueue"], request["retryStrategy"]) == (ON_DEMAND_QUEUE, {"attempts": 1})
    assert request["timeout"] == {"attemptDurationSeconds": SEGMENT}
    for holder in (run_holder(RUN), team_holder("research", MONTH), environment_holder(MONTH)):
        budget = world.budgets.budgets[holder]
        assert (budget.fallback.reserved, budget.total.reserved) == (RESERVED, RESERVED)
    assert world.budgets.budgets[run_holder(RUN)].fallback.available == 20 * USD - RESERVED


def test_a_run_that_has_not_waited_long_enough_waits_until_its_fallback_is_due() -> None:
    world = dry(minute=27)

    assert world.hear("job-1", minute=27) is Outcome.WAITING
    assert world.run.wait_until == after(30)
    assert str(world.run.reason).endswith(f"; on-demand is due at {after(30)}")

    assert world.look(minute=30) is Outcome.FELL_BACK


def test_a_run_that_had_a_machine_has_waited_since_it_lost_it_and_not_since_it_was_submitted() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    lost = JobAttempt(started_at=after(1), stopped_at=after(100), status_reason=HOST)
    world.change("job-1", JobStatus.FAILED, lost, status_reason=CAPACITY, stopped_at=after(110))

    assert world.hear("job-1", minute=110) is Outcome.WAITING
    assert (world.run.dry_since, world.run.wait_until) == (after(100), after(115))
    assert world.look(minute=130) is Outcome.FELL_BACK


def test_a_run_that_allows_no_on_demand_asks_spot_again_and_again() -> None:
    world = dry(cap_usd=0)

    assert world.hear("job-1", minute=600) is Outcome.WAITING
    assert str(world.run.reason).endswith("; the run allows no on-demand")
    assert world.look(minute=800) is Outcome.SUBMITTED

    assert world.batch.requests[-1]["jobQueue"] == SPOT_QUEUE


def test_a_run_whose_money_does_not_suffice_waits_and_then_asks_spot_again() -> None:
    world = dry(cap_usd=1)
    assert world.hear("job-1", minute=32) is Outcome.WAITING
    since = world.run.dry_since or world.run.created_at
    assert str(world.run.reason).startswith(f"no spot capacity since {since}; on-demand is not possible: ")

    assert world.look(minute=120) is Outcome.SUBMITTED

    assert world.batch.requests[-1]["jobQueue"] == SPOT_QUEUE


def test_a_deadline_does_not_wait_once_batch_has_given_up() -> None:
    world = dry(minute=11, mode=Mode.DEADLINE_FIRST.value)

    assert world.hear("job-1", minute=12) is Outcome.FELL_BACK


def test_a_small_cap_buys_a_shorter_attempt_and_one_too_small_buys_none() -> None:
    world = dry(cap_usd=1, attempt_seconds=7200)

    assert world.hear("job-1", minute=32) is Outcome.WAITING
    assert world.run.reason is not None
    assert "the fallback cap of run/digits-7fq2 has $1.00 left of $1.00, and $" in world.run.reason

    world = dry(cap_usd=2, attempt_seconds=7200)
    assert world.hear("job-1", minute=32) is Outcome.FELL_BACK
    assert 900 <= world.run.limit_seconds < 7200
    assert world.budgets.budgets[run_holder(RUN)].fallback.available >= 0


@pytest.mark.parametrize("holder", ["environment", "team"])
def test_caps_of_environment_and_team_are_hard_for_a_deadline_too(holder: str) -> None:
    none = Limits(fallback_microusd=0)
    terms = replace(TERMS, limits=none) if holder == "environment" else replace(TERMS, team_limits={"research": none})
    world = dry(terms=terms, mode=Mode.DEADLINE_FIRST.value)

    assert world.hear("job-1", minute=32) is Outcome.WAITING
    assert world.run.reason is not None
    assert holder in world.run.reason


def test_a_deadline_may_cross_the_runs_own_cap_and_says_so() -> None:
    world = dry(cap_usd=1, mode=Mode.DEADLINE_FIRST.value)

    assert world.hear("job-1", minute=32) is Outcome.FELL_BACK

    assert world.budgets.budgets[run_holder(RUN)].fallback.available == 1 * USD - RESERVED
    over = format_usd(RESERVED - 1 * USD)
    told = [event.message for event in world.ledger.history(RUN) if event.kind == CAP_CROSSED]
    assert told == [f"deadline-first: what is reserved for submission 2 is {over} above the run's own cap"]


def test_that_a_deadline_crossed_its_cap_is_told_before_its_job_exists_and_counted_once_whoever_crashes() -> None:
    class Crash(BaseException):
        pass

    class CrashesAtTheAlert(MemoryLedger):
        is_down = True

        def append_event(self, run_id: str, event: HistoryEvent) -> None:
            if self.is_down:
                raise Crash
            super().append_event(run_id, event)

    ledger = CrashesAtTheAlert()
    world = World(ledger=ledger)
    world.submit(new_run(fallback_cap_microusd=1 * USD, mode=Mode.DEADLINE_FIRST.value))
    world.give_up("job-1", minute=11)
    with pytest.raises(Crash):
        world.hear("job-1", minute=12)
    assert (world.run.market, len(world.batch.requests)) == ("on-demand", 1)

    ledger.is_down = False
    swept = [world.sweep(minute) for minute in (15, 20)]

    assert len(world.batch.requests) == 2
    assert [event.kind for event in world.ledger.history(RUN)].count(CAP_CROSSED) == 1
    assert [done.num_caps_crossed for done in swept] == [1, 0]


def test_a_deadline_leaves_the_queue_of_spot_as_soon_as_it_is_certain_that_there_is_no_host() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * USD, mode=Mode.DEADLINE_FIRST.value))
    world.change("job-1", JobStatus.RUNNABLE)

    world.look(minute=4)
    assert world.batch.withdrawn == []
    world.look(minute=5)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]

    world.change("job-1", JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(5))
    assert world.look(minute=6) is Outcome.FELL_BACK


def test_on_demand_of_unknown_price_is_refused() -> None:
    unpriced = replace(TERMS.profiles["cpu"], usd_per_hour={"m6a.xlarge": Decimal("0.5")})
    world = dry(terms=replace(TERMS, profiles={"cpu": unpriced}))

    assert world.hear("job-1", minute=32) is Outcome.WAITING
    assert world.run.reason is not None
    assert "price of profile 'cpu' is not known" in world.run.reason


def test_a_job_that_batch_lets_wait_for_ever_is_withdrawn_once_on_demand_is_due_and_affordable() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.change("job-1", JobStatus.RUNNABLE)

    world.look(minute=29)
    assert world.batch.withdrawn == []
    world.look(minute=30)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]

    world.change("job-1", JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(30))
    assert world.look(minute=31) is Outcome.FELL_BACK


def test_a_job_that_came_long_after_its_intent_waits_from_when_it_came() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.created("job-1", minute=20)
    world.change("job-1", JobStatus.RUNNABLE)

    world.look(minute=49)
    assert world.batch.withdrawn == []
    assert world.run.waits_since == after(20)
    world.look(minute=50)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]


def test_a_job_of_a_queue_that_gives_machines_to_others_waits_in_a_backlog_and_keeps_its_place() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    submit(new_run("other-0001"), ports=world.ports, now=NOW)
    world.change("job-1", JobStatus.RUNNABLE)
    world.change("job-2", JobStatus.RUNNING, JobAttempt(started_at=after(25)))
    world.hear("job-2", minute=26)

    for minute in range(30, 55, 5):
        world.sweep(minute)
    assert world.batch.withdrawn == []

    world.sweep(55)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]


def test_a_machine_that_a_job_of_others_got_shows_a_backlog_too() -> None:
    world = World()
    world.ports = replace(world.ports, others=MemoryOthers())
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.change("job-1", JobStatus.RUNNABLE)
    order = JobOrder(queue=new_run().job_queue, definition="theirs:1", created_at=NOW)
    started = JobAttempt(started_at=after(25))
    world.batch.jobs["theirs"] = Job(
        job_id="theirs", name="etl", status=JobStatus.RUNNING, attempts=(started,), order=order
    )
    world.hear("theirs", minute=26)

    world.sweep(54)
    assert world.batch.withdrawn == []
    world.sweep(55)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]


def test_a_job_keeps_its_place_in_the_queue_while_on_demand_cannot_be_paid() -> None:
    world = World()
    world.submit(new_run(fallback_cap_microusd=1 * USD))
    world.change("job-1", JobStatus.RUNNABLE)

    world.look(minute=300)

    assert world.batch.withdrawn == []


def test_on_demand_without_capacity_goes_back_to_spot_and_pays_for_a_host_that_may_have_come_too_late() -> None:
    world = fallen_back()
    world.change("job-2", JobStatus.FAILED, status_reason=CAPACITY, stopped_at=after(50))

    assert world.hear("job-2", minute=51) is Outcome.REQUEUED
    assert world.batch.requests[-1]["jobQueue"] == SPOT_QUEUE

    world.sweep(minute=70)
    assert world.budgets.budgets[run_holder(RUN)].fallback.available == 20 * USD - ONE_HOST


@pytest.mark.parametrize(
    "attempts",
    [
        pytest.param(
            (
                JobAttempt(
                    stopped_at=after(60), status_reason="Task failed to start", reason="CannotPullContainerError"
                ),
            ),
            id="its image could not be pulled",
        ),
        pytest.param((), id="it was stopped before it had a container"),
        pytest.param((JobAttempt(started_at=after(60)),), id="when its container ended only the job tells"),
    ],
)
def test_an_on_demand_job_that_never_ran_pays_for_its_host(attempts: tuple[JobAttempt, ...]) -> None:
    world = fallen_back(cap_usd=2, attempt_seconds=7200)
    world.created("job-2", minute=46)
    world.change("job-2", JobStatus.FAILED, *attempts, status_reason="Task failed to start", stopped_at=after(60))
    world.look(minute=61)
    world.sweep(minute=80)
    world.sweep(minute=96)

    own = world.budgets.budgets[run_holder(RUN)].fallback
    assert (own.reserved, own.spent) == (0, ONE_HOST)


def test_what_an_on_demand_job_cost_that_batch_has_forgotten_is_all_that_was_reserved() -> None:
    world = fallen_back()
    world.change("job-2", JobStatus.FAILED, status_reason=CAPACITY, stopped_at=after(50))
    world.hear("job-2", minute=51)
    del world.batch.jobs["job-2"]

    world.sweep(minute=60 * 24 * 8)

    assert world.budgets.reserved[RUN, 2].spent_microusd == RESERVED


def test_what_an_attempt_cost_is_booked_at_the_price_of_its_own_machine_and_the_rest_is_given_back() -> None:
    world = fallen_back()
    world.ledger.attempt_items[RUN, 2, 1] = Attempt(
        run_id=RUN, submission=2, attempt=1, job_id="job-2", instance_type="m6a.xlarge"
    )
    world.created("job-2", minute=32)
    ran = JobAttempt(started_at=after(40), stopped_at=after(70), exit_code=75, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(70))
    world.checkpoints.steps[RUN] = 7
    world.hear("job-2", minute=71)

    world.sweep(minute=75)
    assert world.budgets.budgets[run_holder(RUN)].fallback.reserved == RESERVED, "a late twin may still show up"
    world.sweep(minute=90)

    seconds = 30 * 60 + 900 + 600
    spent = -(-seconds * USD // 3600 // 2)
    budget = world.budgets.budgets[environment_holder(MONTH)]
    assert (budget.fallback.reserved, budget.fallback.spent) == (0, spent)
    assert (budget.total.reserved, budget.total.spent) == (0, spent)


def test_money_is_settled_in_the_month_in_which_it_was_reserved() -> None:
    world = fallen_back()
    ran = JobAttempt(started_at=after(40), stopped_at=after(70), exit_code=1, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(70))
    world.hear("job-2", minute=71)

    world.sweep(minute=60 * 24 * 20)

    assert world.budgets.budgets[environment_holder(MONTH)].fallback.reserved == 0
    assert environment_holder("2026-12") not in world.budgets.budgets


class LosesReplies(MemoryBatch):
    """Shows no job by its name, and answers SubmitJob never on on-demand."""

    is_blind = True

    def submit(self, request: Any) -> str:
        job_id = super().submit(request)
        if request["jobQueue"] == ON_DEMAND_QUEUE:
            raise ReplyLost
        return job_id

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        return () if self.is_blind else super().find(name, queue=queue)


def test_an_unanswered_on_demand_submission_is_sent_twice_at_most_and_its_twin_is_stopped_and_paid() -> None:
    batch = LosesReplies()
    world = World(batch=batch)
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    for minute in range(34, 50, 2):
        world.look(minute=minute)
    assert [request["jobQueue"] for request in batch.requests].count(ON_DEMAND_QUEUE) == 2

    batch.is_blind = False
    assert world.look(minute=50) is Outcome.SUBMITTED
    world.created("job-2", minute=34)
    world.created("job-3", minute=36)
    ran = JobAttempt(started_at=after(40), stopped_at=after(60), exit_code=1, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(60))
    world.hear("job-2", minute=61)
    world.sweep(minute=80)
    assert ("job-3", TWIN_REASON) in batch.terminated
    fenced = JobAttempt(started_at=after(45), stopped_at=after(46), exit_code=76, status_reason=NORMAL)
    world.change("job-3", JobStatus.FAILED, fenced, status_reason=NORMAL, stopped_at=after(81))
    world.sweep(minute=97)

    spent = world.budgets.budgets[environment_holder(MONTH)].fallback.spent
    assert spent == sum(-(-(minutes * 60 + 1500) * USD // 3600) for minutes in (20, 1))
    assert spent <= RESERVED


def test_an_on_demand_submission_that_never_became_a_job_is_given_up_and_costs_nothing() -> None:
    class LosesRequests(MemoryBatch):
        def submit(self, request: Any) -> str:
            if request["jobQueue"] == ON_DEMAND_QUEUE:
                raise ReplyLost
            return super().submit(request)

    world = World(batch=LosesRequests())
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    world.look(minute=34)
    world.look(minute=36)

    assert world.look(minute=65) is Outcome.WAITING
    world.sweep(minute=66)
    world.sweep(minute=90)

    assert world.budgets.budgets[environment_holder(MONTH)].fallback.spent == 0
    assert world.budgets.reserved[RUN, 2].settled_at is not None


def test_the_kill_switch_stops_what_runs_and_what_was_about_to() -> None:
    world = fallen_back()
    world.change("job-2", JobStatus.RUNNING, JobAttempt(started_at=after(40)))

    kill_switch.turn(is_off=True, reason="month end", ports=world.ports)
    world.sweep(minute=45)
    assert ("job-2", SWITCHED_OFF_REASON) in world.batch.terminated

    ran = JobAttempt(started_at=after(40), stopped_at=after(46), exit_code=75, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=SWITCHED_OFF_REASON, stopped_at=after(46))
    assert world.hear("job-2", minute=47) is Outcome.REQUEUED
    assert world.batch.requests[-1]["jobQueue"] == SPOT_QUEUE
    world.give_up("job-3", minute=90)
    world.hear("job-3", minute=91)
    assert world.run.reason is not None
    assert "on-demand is switched off: month end" in world.run.reason


def test_a_reservation_whose_job_was_not_submitted_yet_is_given_back_when_the_switch_is_turned() -> None:
    class Throttles(MemoryBatch):
        def submit(self, request: Any) -> str:
            if request["jobQueue"] == ON_DEMAND_QUEUE:
                raise Throttled
            return super().submit(request)

    world = World(batch=Throttles())
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    for minute in (34, 36, 38):
        world.look(minute=minute)
    assert world.run.num_sends == 0, "what was throttled did not happen"

    kill_switch.turn(is_off=True, reason="month end", ports=world.ports)
    world.look(minute=40)
    world.sweep(minute=60)
    world.sweep(minute=80)

    assert world.budgets.budgets[environment_holder(MONTH)].fallback.reserved == 0
    assert world.run.market == "spot" or world.run.state is RunState.WAITING


def test_a_run_that_may_not_be_submitted_to_on_demand_asks_spot_again_and_gives_its_reservation_back() -> None:
    class Denies(MemoryBatch):
        def submit(self, request: Any) -> str:
            if request["jobQueue"] == ON_DEMAND_QUEUE:
                raise NotAllowed("AccessDeniedException: with an explicit deny")
            return super().submit(request)

    world = World(batch=Denies())
    world.submit(new_run(fallback_cap_microusd=20 * USD))
    world.give_up("job-1", minute=31)
    with pytest.raises(NotAllowed):
        world.hear("job-1", minute=32)
    assert world.run.num_sends == 0, "what is not allowed did not happen"

    assert world.look(minute=63) is Outcome.WAITING
    assert "with an explicit deny" in (world.run.why or "")
    world.look(minute=68)
    world.sweep(minute=85)

    assert (world.run.market, world.run.state) == ("spot", RunState.SUBMITTED)
    assert world.budgets.budgets[environment_holder(MONTH)].fallback.reserved == 0


def test_a_cancelled_run_gives_its_reservation_back() -> None:
    world = fallen_back()
    cancel(RUN, ports=world.ports, now=after(33))
    world.change("job-2", JobStatus.FAILED, status_reason="Cancelled with spotkeeper cancel", stopped_at=after(34))
    world.hear("job-2", minute=34)

    world.sweep(minute=60)

    assert world.run.state is RunState.CANCELLED
    assert world.budgets.budgets[environment_holder(MONTH)].fallback.reserved == 0


def test_a_lost_on_demand_host_goes_back_to_spot_unless_a_standby_told_that_spot_is_dry() -> None:
    for num_failed, queue in ((0, SPOT_QUEUE), (1, ON_DEMAND_QUEUE)):
        world = fallen_back()
        world.ledger.advance(world.run, num_failed_standbys=num_failed)
        world.lose_host("job-2", minute=70, step=5)

        world.hear("job-2", minute=71)

        assert world.batch.requests[-1]["jobQueue"] == queue
