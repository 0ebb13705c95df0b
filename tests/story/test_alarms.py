"""The alarms of the environment that is deployed, on what its functions log and its queues hold while people use it."""

import pytest

from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from tests.story.age import age_commits
from tests.story.programs import GOES_ON_WHEN_TOLD_TO_STOP, library_program
from tests.story.user import User, eventually
from tests.story.watched import Watched


@pytest.fixture
def speed() -> float:
    return 60  # a sweep every five seconds


@pytest.fixture
def watched(cloud: Cloud) -> Watched:
    return Watched(cloud, begin=cloud.clock.now().timestamp())


def test_nothing_fires_while_a_run_trains_is_interrupted_saves_resumes_and_succeeds(
    cloud: Cloud, user: User, watched: Watched
) -> None:
    run = user.submit(library_program(total=120))
    instance_id = user.claimed(run)
    eventually(lambda: user.output(run), lambda text: '"progress"' in text)
    watched.look()

    cloud.market.reclaim(instance_id, notice=True)
    user.claimed(run, epoch=2)
    watched.sweeps(1)
    assert user.ended(run).state is RunState.SUCCEEDED
    watched.look()
    watched.sweeps(2)

    assert watched.fired() == set()
    names = {datum.series.name for datum in watched.emitted}
    assert names >= {"HostsLost", "CheckpointAge", "InterruptionWarnings", "RunsClosed"}, "they are measured"


def test_dead_letters_fires_when_a_message_could_not_be_handled(cloud: Cloud, watched: Watched) -> None:
    queues = cloud.deployment.queues
    source = next(queue for queue in queues.values() if "RecordInterruption" in queue.name and queue.dead_letter_arn)
    sqs = cloud.session.client("sqs", endpoint_url=cloud.endpoint_url)
    watched.look()

    sqs.send_message(QueueUrl=source.url, MessageBody="no event")
    dead_letters = queues[source.dead_letter_arn].name
    watched.until(lambda: _depths(watched), lambda depths: depths.get(dead_letters) == 1)
    watched.sweeps(1)
    watched.look()

    assert watched.fired() == {"DeadLetters"}


def _depths(watched: Watched) -> dict[str, float]:
    return {dict(datum.series.dimensions)["QueueName"]: datum.value for datum in watched.depths}


def test_notice_not_honoured_fires_when_a_program_goes_on_until_its_host_is_taken(
    cloud: Cloud, user: User, watched: Watched
) -> None:
    run = user.submit(GOES_ON_WHEN_TOLD_TO_STOP)
    instance_id = user.claimed(run)
    eventually(lambda: user.num_commits(run), bool)
    age_commits(user, run, seconds=600)
    watched.sweeps(1)

    cloud.market.reclaim(instance_id, notice=True)
    eventually(lambda: [attempt.cause for attempt in user.attempts(run)], lambda causes: Cause.INTERRUPTED in causes)
    watched.sweeps(2)

    assert watched.fired() == {"NoticeNotHonoured"}
