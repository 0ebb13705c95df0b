"""The alarms of the environment that is deployed, on what its functions log and its queues hold while people use it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from emulation.alarms.metric_alarm import ALARM
from emulation.alarms.metric_data import Datum, read_embedded
from emulation.alarms.service_metrics import visible_messages
from emulation.alarms.watch import AlarmWatch
from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from tests.story.programs import library_program
from tests.story.user import User, eventually

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def speed() -> float:
    return 60  # a sweep every five seconds


@dataclass
class Watched:
    """An environment whose metrics are read while time passes; one real second is a minute of AWS's."""

    cloud: Cloud
    begin: float
    depths: list[Datum] = field(default_factory=list)

    def look(self) -> None:
        """Read what SQS reports at this moment."""
        sqs = self.cloud.session.client("sqs", endpoint_url=self.cloud.endpoint_url)
        self.depths += visible_messages(self.cloud.deployment, sqs, at=self.cloud.clock.now().timestamp())

    @property
    def emitted(self) -> list[Datum]:
        """What the functions have logged."""
        lines = [line for function in self.cloud.functions.values() for line in function.log_lines]
        return read_embedded(lines)

    def fired(self) -> set[str]:
        """Return the alarms that have been in ALARM since the first sweep."""

        def aws_time(real: float) -> float:
            return self.begin + (real - self.begin) * self.cloud.clock.speed

        data = [replace(datum, at=aws_time(datum.at)) for datum in (*self.emitted, *self.depths)]
        first_sweep = min(datum.at for datum in data if datum.series.name == "Sweeps")
        end = aws_time(self.cloud.clock.now().timestamp())
        states = AlarmWatch(self.cloud.deployment.resources).states(data, begin=first_sweep, end=end)
        return {name for state in states for name in state if state[name] == ALARM}

    def sweeps(self, number: int) -> None:
        """Wait until there were so many more sweeps."""
        before = self._num_sweeps()
        eventually(self._num_sweeps, lambda found: found >= before + number)

    def _num_sweeps(self) -> int:
        return sum(datum.series.name == "Sweeps" for datum in self.emitted)


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
    eventually(_seen(watched), lambda depths: depths.get(queues[source.dead_letter_arn].name) == 1)
    watched.sweeps(1)
    watched.look()

    assert watched.fired() == {"DeadLetters"}


def _seen(watched: Watched) -> Callable[[], dict[str, float]]:
    def look() -> dict[str, float]:
        watched.look()
        return {dict(datum.series.dimensions)["QueueName"]: datum.value for datum in watched.depths}

    return look


def test_notice_not_honoured_fires_when_a_program_goes_on_until_its_host_is_taken(
    cloud: Cloud, user: User, watched: Watched
) -> None:
    run = user.submit(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        """
    )
    instance_id = user.claimed(run)
    watched.sweeps(1)

    cloud.market.reclaim(instance_id, notice=True)
    eventually(lambda: [attempt.cause for attempt in user.attempts(run)], lambda causes: Cause.INTERRUPTED in causes)
    watched.sweeps(2)

    assert watched.fired() == {"NoticeNotHonoured"}
