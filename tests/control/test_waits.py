"""A run whose job waits for a machine says since when and why, whatever its state."""

from dataclasses import replace

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, JobAttempt, JobStatus
from spotkeeper.control.run import Run
from tests.control.fakes import MemoryLedger
from tests.control.reconciled import HOST, RUN, World, after

LOST = JobAttempt(started_at=after(1), stopped_at=after(20), status_reason=HOST)


def retried(world: World | None = None) -> World:
    """Return a world in which Batch retries the job of a run after its host was lost, and there is no machine."""
    world = world or World()
    world.submit()
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNABLE, LOST)
    return world


def test_a_running_run_whose_job_waits_for_its_retry_says_so_and_is_counted_when_it_waits_too_long() -> None:
    world = retried()

    assert world.sweep(25).waits == {}
    assert (world.run.state, world.run.waits_since) == (RunState.RUNNING, after(20))
    done = world.sweep(3 * 24 * 60)

    words = f"its job waits for a machine (spot) since {after(20)}"
    assert done.waits == {RUN: words}
    assert world.run.why == words


def test_the_reason_is_that_of_aws_batch_as_it_is_now() -> None:
    world = retried()
    world.hear("job-1", minute=21)

    world.change("job-1", JobStatus.RUNNABLE, LOST, status_reason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")
    world.sweep(25)

    assert (world.run.waits_since, world.run.waits_why) == (after(20), "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")


def test_a_first_job_waits_since_it_was_submitted() -> None:
    world = World()
    run = world.submit()
    world.change("job-1", JobStatus.RUNNABLE)

    world.hear("job-1", minute=1)

    assert world.run.waits_since == run.created_at


def test_a_job_that_has_a_machine_waits_no_more() -> None:
    world = retried()
    world.hear("job-1", minute=21)

    world.change("job-1", JobStatus.STARTING, LOST)
    world.sweep(25)

    assert (world.run.waits_since, world.run.waits_why, world.run.why) == (None, None, None)


def test_a_job_that_was_read_before_its_attempt_claimed_does_not_make_the_run_wait() -> None:
    world = retried()
    world.ledger.claim(RUN, "job-1", 2)

    world.hear("job-1", minute=21)

    assert world.run.waits_since is None


def test_a_note_that_meets_another_write_is_left_to_the_next_look() -> None:
    class Busy(MemoryLedger):
        def advance(self, run: Run, **changes: object) -> Run:
            if "waits_since" in changes and "state" not in changes:
                self.runs[RUN] = replace(self.runs[RUN], version=self.runs[RUN].version + 1)
                raise Conflict
            return super().advance(run, **changes)

    world = retried(World(ledger=Busy()))

    assert world.hear("job-1", minute=21) is Outcome.RECORDED
    assert world.run.waits_since is None


def test_a_run_that_ended_or_goes_on_elsewhere_has_no_job_that_waits() -> None:
    world = retried()
    world.hear("job-1", minute=21)
    world.checkpoints.steps[RUN] = 3
    world.change("job-1", JobStatus.FAILED, LOST, status_reason=HOST, stopped_at=after(30))

    world.hear("job-1", minute=31)

    assert (world.summary, world.run.waits_since) == ((RunState.SUBMITTED, 2), None)
