"""Back to spot by a standby: it takes over only when the on-demand job has ended, and costs only itself."""

from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import STANDBY_REASON, TWIN_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause
from spotkeeper.control.ports import Job, JobAttempt, JobStatus
from spotkeeper.policy.money import MICROUSD_PER_USD
from tests.control.fakes import ON_DEMAND_QUEUE, SPOT_QUEUE, MemoryBatch, new_run
from tests.control.reconciled import HOST, NORMAL, RUN, World, after

STARTED = 40


def on_demand(batch: MemoryBatch | None = None, **caps: int) -> World:
    """Return a world whose run trains on on-demand since minute 40, in job-2."""
    world = World(batch=batch)
    world.submit(new_run(**{"fallback_cap_microusd": 20 * MICROUSD_PER_USD, **caps}))
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    world.ledger.claim(RUN, "job-2", 1)
    world.ledger.runs[RUN] = world.run.advanced(claimed_at=after(STARTED))
    world.change("job-2", JobStatus.RUNNING, JobAttempt(started_at=after(STARTED)))
    world.checkpoints.steps[RUN] = 1
    return world


def with_standby(batch: MemoryBatch | None = None) -> World:
    world = on_demand(batch)
    world.look(minute=STARTED + 15)
    assert world.run.standby_job_id == "job-3"
    world.change("job-3", JobStatus.RUNNING, JobAttempt(started_at=after(58)))
    return world


def yielded(world: World, *, minute: float) -> None:
    world.checkpoints.steps[RUN] = 100
    ran = JobAttempt(started_at=after(STARTED), stopped_at=after(minute), exit_code=75, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(minute))


def test_a_standby_is_placed_on_spot_under_a_number_of_its_own_once_it_is_due() -> None:
    world = on_demand()

    world.look(minute=STARTED + 14)
    assert world.run.standby_submission is None
    world.look(minute=STARTED + 15)

    request = world.batch.requests[-1]
    assert (request["jobName"], request["jobQueue"]) == (f"{RUN}-3", SPOT_QUEUE)
    assert "retryStrategy" not in request
    environment = {item["name"]: item["value"] for item in request["containerOverrides"]["environment"]}
    assert environment["SPOTKEEPER_STANDBY_AGE_SECONDS"] == "1200"
    assert world.summary == (RunState.RUNNING, 2)


def test_the_standby_takes_over_when_the_on_demand_job_has_yielded_and_not_before() -> None:
    world = with_standby()
    world.look(minute=STARTED + 30)
    assert world.run.submission == 2

    yielded(world, minute=80)
    assert world.hear("job-2", minute=81) is Outcome.REQUEUED

    assert (world.run.submission, world.run.state, world.run.job_id) == (3, RunState.SUBMITTED, "job-3")
    assert (world.run.market, world.run.job_queue, world.run.standby_submission) == ("spot", SPOT_QUEUE, None)
    assert len(world.batch.requests) == 3, "its job existed already"


def test_the_standby_takes_over_although_the_profile_was_removed_from_the_settings_meanwhile() -> None:
    world = with_standby()
    yielded(world, minute=61)
    world.ports = replace(world.ports, terms=replace(world.ports.terms, profiles={}))

    assert world.look(minute=62) is Outcome.REQUEUED

    assert (world.run.submission, world.run.job_id, world.run.job_queue) == (3, "job-3", SPOT_QUEUE)


def test_a_run_that_completes_on_on_demand_dismisses_its_standby() -> None:
    world = with_standby()
    world.ledger.complete(RUN, world.run.epoch)
    done = JobAttempt(started_at=after(STARTED), stopped_at=after(80), exit_code=0, status_reason=NORMAL)
    world.change("job-2", JobStatus.SUCCEEDED, done, status_reason=NORMAL, stopped_at=after(80))

    assert world.hear("job-2", minute=81) is Outcome.CLOSED

    assert world.run.state is RunState.SUCCEEDED
    assert ("job-3", STANDBY_REASON) in world.batch.terminated


@pytest.mark.parametrize("wish", [cancel, pause])
def test_the_users_word_wins_over_a_standby(wish: Any) -> None:
    world = with_standby()

    wish(RUN, ports=world.ports, now=after(60))
    assert ("job-3", STANDBY_REASON) in world.batch.terminated
    yielded(world, minute=61)
    world.hear("job-2", minute=62)

    assert world.run.state in (RunState.CANCELLED, RunState.PAUSED)
    assert world.run.submission == 2


def test_a_standby_that_dies_is_recorded_as_waste_and_the_next_one_waits_twice_as_long() -> None:
    world = with_standby()
    lost = JobAttempt(started_at=after(58), stopped_at=after(60), status_reason=HOST)
    world.change("job-3", JobStatus.FAILED, lost, status_reason=HOST, stopped_at=after(60))

    world.hear("job-3", minute=60)
    assert (world.run.standby_submission, world.run.num_failed_standbys) == (None, 1)
    assert world.ledger.attempt_items[RUN, 3, 1].started_at == after(58)

    world.look(minute=60 + 29)
    assert world.run.standby_submission is None
    world.look(minute=60 + 30)
    assert world.run.standby_submission == 4


def test_a_run_whose_standby_died_at_the_moment_of_the_handover_goes_on_on_on_demand() -> None:
    world = with_standby()
    world.ledger.runs[RUN] = world.run.advanced(handover_asked_at=after(78))
    world.change("job-3", JobStatus.FAILED, status_reason=HOST, stopped_at=after(79))
    yielded(world, minute=80)

    assert world.hear("job-2", minute=81) is Outcome.FELL_BACK

    assert (world.run.submission, world.run.job_queue) == (4, ON_DEMAND_QUEUE)
    assert world.run.handover_asked_at is None


@pytest.mark.parametrize("status", [JobStatus.SUBMITTED, JobStatus.RUNNABLE])
def test_a_standby_without_a_machine_proves_nothing_and_the_run_stays_on_on_demand(status: JobStatus) -> None:
    world = with_standby()
    world.change("job-3", status)
    yielded(world, minute=80)

    assert world.hear("job-2", minute=81) is Outcome.FELL_BACK

    assert (world.run.submission, world.run.job_queue) == (4, ON_DEMAND_QUEUE)
    assert ("job-3", STANDBY_REASON) in world.batch.terminated
    assert world.run.num_failed_standbys == 1


def test_a_standby_of_an_unknown_state_is_not_given_up() -> None:
    world = with_standby()
    hidden = world.batch.jobs.pop("job-3")

    world.look(minute=STARTED + 20)
    assert world.run.standby_submission == 3

    world.batch.jobs["job-3"] = hidden
    yielded(world, minute=80)
    world.hear("job-2", minute=81)
    assert world.run.job_id == "job-3"


def test_a_lost_reply_to_the_standbys_submission_is_resolved_by_its_name() -> None:
    class LosesOne(MemoryBatch):
        def submit(self, request: Any) -> str:
            self.lost_replies = int(request["jobName"] == f"{RUN}-3")
            return super().submit(request)

    world = on_demand(LosesOne())
    world.look(minute=STARTED + 15)
    unanswered = world.run
    assert (unanswered.standby_submission, unanswered.standby_job_id) == (3, None)

    world.look(minute=STARTED + 20)
    assert world.run.standby_job_id == "job-3"
    assert len(world.batch.requests) == 3


def test_of_two_standbys_under_one_number_the_first_to_be_seen_is_the_one() -> None:
    class LosesOne(MemoryBatch):
        def submit(self, request: Any) -> str:
            self.lost_replies = int(request["jobName"] == f"{RUN}-3")
            return super().submit(request)

        def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
            return super().find(name, queue=queue) if name != f"{RUN}-3" else ()

    world = on_demand(LosesOne())
    world.look(minute=STARTED + 15)
    world.look(minute=STARTED + 16)
    assert {job.name for job in list(world.batch.jobs.values())[2:]} == {f"{RUN}-3"}
    for job_id in ("job-4", "job-3"):
        world.change(job_id, JobStatus.RUNNING, JobAttempt(started_at=after(58)))

    world.hear("job-4", minute=59)
    assert world.hear("job-3", minute=59) is Outcome.UNCHANGED

    assert world.run.standby_job_id == "job-4"
    assert world.batch.terminated == [("job-3", TWIN_REASON)]
    assert world.ledger.attempt_items[RUN, 3, 1].job_id == "job-4"


def test_a_run_that_has_saved_nothing_gets_no_standby_because_it_would_lose_everything() -> None:
    world = on_demand()
    world.checkpoints.steps.clear()

    world.look(minute=600)

    assert world.run.standby_submission is None


def test_a_run_on_spot_gets_no_standby() -> None:
    world = World()
    world.submit()
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(2)))

    world.look(minute=600)

    assert world.run.standby_submission is None
    assert [request["jobQueue"] for request in world.batch.requests] == [SPOT_QUEUE]
    assert ON_DEMAND_QUEUE not in world.run.job_queue


def out_of_money() -> World:
    """Return a world whose run has spent its cap, and ends a segment while its standby waits for a machine."""
    usd = 100 * MICROUSD_PER_USD
    world = on_demand(fallback_cap_microusd=usd, total_cap_microusd=usd)
    world.look(minute=STARTED + 15)
    world.change("job-3", JobStatus.RUNNABLE)
    budget = world.budgets.budgets[run_holder(RUN)]
    world.budgets.set_limits(budget, fallback=budget.fallback.reserved, total=budget.total.reserved)
    yielded(world, minute=80)
    return world


def test_a_run_that_is_parked_for_want_of_money_has_no_standby_and_gets_its_lease_back() -> None:
    world = out_of_money()

    assert world.hear("job-2", minute=81) is Outcome.PARKED
    world.change("job-3", JobStatus.FAILED, status_reason=STANDBY_REASON, stopped_at=after(81))
    world.sweep(minute=120)

    assert (world.run.standby_submission, world.run.standby_job_id) == (None, None)
    assert [item.submission for item in world.budgets.reservations(RUN) if item.settled_at is None] == []


def test_the_lease_of_a_standby_that_a_parked_run_still_names_is_settled() -> None:
    world = out_of_money()
    named = {name: getattr(world.run, name) for name in ("standby_submission", "standby_job_id")}
    world.hear("job-2", minute=81)
    world.ledger.runs[RUN] = world.run.advanced(**named)  # as earlier releases have left it
    world.change("job-3", JobStatus.FAILED, status_reason=STANDBY_REASON, stopped_at=after(81))

    world.sweep(minute=120)

    assert [item.submission for item in world.budgets.reservations(RUN) if item.settled_at is None] == []
