"""Jobs that others submit to a spot queue, past Spotkeeper."""

from collections.abc import Mapping
from typing import Any

import pytest

from emulation.cloud import Cloud
from spotkeeper.contract import tags
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name
from spotkeeper.control.classify import Cause
from tests.story.user import User, eventually


@pytest.fixture
def entrypoint() -> tuple[str, ...]:
    """None, as of the trainer image: a job of others starts what it names."""
    return ()


def submit(
    user: User, name: str, command: list[str], *, variables: Mapping[str, str] | None = None, **request: Any
) -> str:
    """Submit as a program does that has never heard of Spotkeeper, or of no more than its documentation."""
    profile = user.connection.descriptor.profiles["cpu"]
    return user.connection.batch_client.submit_job(
        jobName=name,
        jobQueue=profile.spot_queue,
        jobDefinition=profile.job_definition,
        shareIdentifier=user.connection.descriptor.teams[0],
        containerOverrides={
            "command": command,
            "environment": [{"name": key, "value": value} for key, value in (variables or {}).items()],
        },
        **request,
    )["jobId"]


def test_a_job_of_others_is_noted_with_its_price_and_left_alone(cloud: Cloud, user: User) -> None:
    job_id = submit(user, "nightly-1", ["sh", "-c", "exit 3"])

    assert cloud.batch.wait(job_id, {"FAILED"}, 120)["status"] == "FAILED"
    (noted,) = eventually(
        lambda: user.connection.others.list_jobs(10), lambda found: [job.status for job in found] == ["FAILED"]
    )

    assert (noted.job_id, noted.name, noted.num_attempts) == (job_id, "nightly-1", 1)
    assert [attempt.exit_code for attempt in cloud.batch.attempts(job_id)] == [3]
    assert noted.most_microusd
    assert noted.pricing.startswith("at most $")
    assert user.connection.ledger.get("nightly") is None


def test_a_job_that_asks_for_it_is_taken_for_a_run_and_goes_on_past_what_batch_forgives(
    cloud: Cloud, user: User
) -> None:
    command = ["spotkeeper-exec", "--", "sh", "-c", 'test "$SPOTKEEPER_SUBMISSION" = 2 || sleep 60']
    job_id = submit(
        user,
        job_name("nightly", 1),
        command,
        variables={"SPOTKEEPER_RUN_ID": "nightly", "SPOTKEEPER_SUBMISSION": "1"},
        tags={tags.REQUEUE: tags.REQUEUE_VALUE},
        retryStrategy={"attempts": 1},
    )
    eventually(lambda: user.connection.ledger.get("nightly"), lambda run: run is not None and run.epoch == 1)

    cloud.market.reclaim(cloud.batch.attempts(job_id)[0].instance.id, notice=False)
    ended = eventually(lambda: user.connection.ledger.get("nightly"), lambda run: run is not None and run.is_closed)

    assert ended is not None
    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 2, 2)
    assert [attempt.cause for attempt in user.attempts(ended)] == [Cause.HOST_LOST, Cause.COMPLETED]
    assert user.connection.others.list_jobs(10) == ()
