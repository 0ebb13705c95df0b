"""SageMaker gives up on jobs without machines: with several types Spotkeeper does so first, unless no sweep comes."""

import operator
from collections.abc import Sequence
from decimal import Decimal
from functools import partial

import pytest

from emulation.cloud import Cloud
from emulation.events.router import Event
from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.checkpoint_layout import commit_prefix
from spotkeeper.contract.descriptor import Training
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import training_job_name
from spotkeeper.control.classify import Cause
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.run import Run
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.training_place import SAGEMAKER
from spotkeeper.policy.reservation import on_demand_microusd
from spotkeeper.trainer.manifest import unseal
from tests.story.faults import Faults
from tests.story.queues import all_is_handled
from tests.story.user import User, eventually, later, now

PROGRAM = """
    import hashlib, os, pathlib, signal, sys, time

    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    saved = pathlib.Path("out/state")
    step, weights = saved.read_text().split() if saved.exists() else (0, "")
    for step in range(int(step) + 1, 21):
        weights = hashlib.sha256(f"{weights} {step}".encode()).hexdigest()
        if asked or step == 20:
            saved.parent.mkdir(exist_ok=True)
            saved.write_text(f"{step} {weights}")
        if asked:
            sys.exit(0)
        print("at", step, flush=True)
        while step == 5 and os.environ["SPOTKEEPER_SUBMISSION"] == "1" and not asked:
            time.sleep(0.1)
"""
"""Its end depends on every step before, and their order; in its first job it goes on until it is asked to stop."""


@pytest.fixture
def unheard() -> set[str]:
    """Runs of whose jobs every event is lost."""
    return set()


@pytest.fixture
def faults(unheard: set[str]) -> Faults:
    """Of training jobs nothing is heard but their ends, and of some not even those."""

    def deliver(event: Event) -> Sequence[Event]:
        detail = event["detail"]
        is_end = detail.get("TrainingJobStatus") in ("Completed", "Failed", "Stopped")
        return (event,) if is_end and detail["Environment"][variables.RUN_ID] not in unheard else ()

    return deliver


def test_where_sagemaker_gives_up_its_event_alone_brings_on_demand_within_the_cap_and_without_event_a_sweep_does(
    cloud: Cloud, user: User, unheard: set[str]
) -> None:
    cloud.router.stop()  # no sweep: Spotkeeper would stop the jobs itself
    all_is_handled(cloud)
    heard = submitted(user)
    eventually(lambda: cloud.training.periods(job_of(heard, 1)), bool)
    eventually(lambda: cloud.training.output(job_of(heard, 1)), lambda text: "at 5" in text)
    cloud.market.dry()
    cloud.market.reclaim(cloud.training.instances(job_of(heard, 1))[0].id, notice=True)
    silent = submitted(user)
    unheard.add(silent.run_id)
    cloud.training.wait(job_of(heard, 1), "Starting")
    wait_for_longer_than_spotkeeper_lets_jobs(user, since=now())
    assert cloud.training.job(job_of(silent, 1))["SecondaryStatus"] == "Starting"

    for submission in (1, 2, 3):
        is_given_up(cloud, heard, submission)
        eventually(lambda: user.run(heard).submission, partial(operator.lt, submission))
    is_reserved_for(user, user.run(heard))
    is_still = user.run(silent)
    assert (is_still.submission, is_still.version) == (1, silent.version), "nobody has looked"
    for submission in (1, 2, 3):
        is_given_up(cloud, silent, submission)
        assert user.run(silent).submission == submission, "nobody has heard of it"
        user.sweep(at=now())
    is_reserved_for(user, user.run(silent))

    ended = user.ended(heard)
    cloud.training.wait(job_of(silent, 4), timeout_seconds=150)
    user.sweep(at=now())
    for run in (ended, user.run(silent)):
        assert (run.state, run.market, run.submission) == (RunState.SUCCEEDED, "on-demand", 4), run.reason
        assert types_asked(cloud, run) == [*training(user).profiles["sm-cpu"].spot_instance_types, None]
        reasons = [event.message for event in user.connection.ledger.history(run.run_id)]
        assert ["MaxWaitTimeExceeded" in reason for reason in reasons] == [True, True, True], reasons
    user.sweep(at=later(3600))
    is_settled_by_what_sagemaker_bills(cloud, user, heard)
    is_settled_by_what_sagemaker_bills(cloud, user, silent)

    assert [attempt.cause for attempt in user.attempts(heard)] == [Cause.INTERRUPTED, Cause.COMPLETED]
    assert '"event":"resumed"' in cloud.training.output(job_of(heard, 4))
    assert [attempt.cause for attempt in user.attempts(silent)] == [Cause.COMPLETED], "trained in one piece"
    assert final_state(user, heard) == final_state(user, silent)


def submitted(user: User) -> Run:
    return user.submit(PROGRAM, service=SAGEMAKER, spending=Spending.of(fallback_cap="20"), checkpoint_folder="out")


def job_of(run: Run, submission: int) -> str:
    return training_job_name(run.environment, run.run_id, submission)


def training(user: User) -> Training:
    found = user.connection.descriptor.training
    assert found is not None
    return found


def wait_for_longer_than_spotkeeper_lets_jobs(user: User, *, since: str) -> None:
    """Wait until any look at a job without machines would make its run ask for the next type, and on-demand is due."""
    patience_seconds = max(training(user).starting_seconds, user.connection.descriptor.placement.fallback_after_seconds)
    eventually(lambda: seconds_between(since, now()), lambda waited: waited > patience_seconds)


def is_given_up(cloud: Cloud, run: Run, submission: int) -> None:
    """Let SageMaker end the job of a submission."""
    name = job_of(run, submission)
    eventually(lambda: cloud.training.has(name), bool)
    cloud.training.end_wait(name)
    told = cloud.training.wait(name)
    assert (told["TrainingJobStatus"], told["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")


def types_asked(cloud: Cloud, run: Run) -> list[str | None]:
    """Return the type that each of the run's jobs asked for; None: several, in order of preference."""
    jobs = [cloud.training.job(job_of(run, number)) for number in range(1, run.submission + 1)]
    return [job["ResourceConfig"].get("InstanceType") for job in jobs]


def usd_per_hour(user: User) -> Decimal:
    return Decimal(training(user).profiles["sm-cpu"].usd_per_hour["ml.m5.xlarge"])


def is_reserved_for(user: User, run: Run) -> None:
    """Assert that the run is on on-demand, with the money of one attempt set aside and nothing booked."""
    assert (run.market, run.submission) == ("on-demand", 4), run.reason
    (reservation,) = user.connection.budgets.reservations(run.run_id)
    assert run.segment_seconds is not None
    assert (reservation.submission, reservation.microusd) == (
        4,
        on_demand_microusd(usd_per_hour(user), run.segment_seconds),
    )
    budget = user.connection.budgets.get(run_holder(run.run_id))
    assert budget is not None
    assert (budget.fallback.reserved, budget.fallback.spent) == (reservation.microusd, 0)


def is_settled_by_what_sagemaker_bills(cloud: Cloud, user: User, run: Run) -> None:
    billed_hours = cloud.training.job(job_of(run, 4))["BillableTimeInSeconds"] / 3600
    budget = user.connection.budgets.get(run_holder(run.run_id))
    assert budget is not None
    assert budget.fallback.reserved == 0
    assert budget.fallback.spent == pytest.approx(float(usd_per_hour(user)) * billed_hours * 1e6, abs=1)


def final_state(user: User, run: Run) -> bytes:
    """Return the one file of the run's newest checkpoint."""
    s3, bucket = user.connection.s3, user.connection.descriptor.checkpoint_bucket
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=commit_prefix(run.run_id))["Contents"]
    newest = max(stored["Key"] for stored in listed)
    (stored,) = unseal(s3.get_object(Bucket=bucket, Key=newest)["Body"].read(), newest, run.run_id)["objects"]
    return s3.get_object(Bucket=bucket, Key=stored["key"])["Body"].read()
