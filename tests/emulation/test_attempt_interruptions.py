"""`up --interruptions N --every SECONDS`."""

import threading
from pathlib import Path

import pytest

from emulation.attempt_interruptions import AttemptInterruptions, Plan
from emulation.batch.executor import Delays
from tests.emulation.compute import ON_DEMAND_QUEUE, compute, eventually
from tests.emulation.training import training

NO_DELAYS = Delays(boot_seconds=0, pull_seconds=0)
SLEEP = "import time; time.sleep(60)"


def test_so_many_attempts_lose_their_machine_with_notice_and_the_next_is_left_alone(tmp_path: Path) -> None:
    told: list[str] = []
    with compute(tmp_path, delays=NO_DELAYS, grace_seconds=0.2) as cloud:
        AttemptInterruptions(
            Plan(2, every_seconds=0.1), market=cloud.market, clock=cloud.clock, say=told.append
        ).follow_batch(cloud.batch)
        job_id = cloud.python(SLEEP)
        eventually(lambda: [each for each in cloud.batch.attempts(job_id)[2:] if each.started_at_ms])
        # The clock comes to this after it has come to the third attempt's interruption, were there one.
        passed = threading.Event()
        cloud.clock.after(0.5, passed.set)
        assert passed.wait(20)

        first, second, third = cloud.batch.attempts(job_id)
        assert first.instance.noticed_at is not None
        assert second.instance.noticed_at is not None
        assert third.instance.noticed_at is None
    assert [line.partition(":")[0] for line in told] == ["interruption 1 of 2", "interruption 2 of 2"]


def test_an_on_demand_machine_is_not_taken_back(tmp_path: Path) -> None:
    told: list[str] = []
    with compute(tmp_path, delays=NO_DELAYS) as cloud:
        AttemptInterruptions(
            Plan(1, every_seconds=0.01), market=cloud.market, clock=cloud.clock, say=told.append
        ).follow_batch(cloud.batch)
        job_id = cloud.python("import time; time.sleep(0.5)", jobQueue=ON_DEMAND_QUEUE)

        assert cloud.wait(job_id)["status"] == "SUCCEEDED"
    assert told == []


def test_a_training_job_loses_its_machine_too_as_often_as_planned(tmp_path: Path) -> None:
    told: list[str] = []
    with training(tmp_path, grace_seconds=0.2) as cloud:
        AttemptInterruptions(
            Plan(1, every_seconds=0.1), market=cloud.market, clock=cloud.clock, say=told.append
        ).follow_training(cloud.service)
        cloud.create(
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('started', flush=True); signal.pause()"
        )
        cloud.writes(times=2)
        passed = threading.Event()
        cloud.clock.after(0.5, passed.set)
        assert passed.wait(20)

        first, second = cloud.service.periods("job")
        assert first.instances[0].noticed_at is not None
        assert second.instances[0].noticed_at is None
    assert [line.partition(":")[0] for line in told] == ["interruption 1 of 1"]
    assert "back from job, notice" in told[0]


@pytest.mark.parametrize(
    ("number", "every_seconds", "message"),
    [
        (-1, 20, "--interruptions must be 0 or more; got -1"),
        (1, 0, "--every must be a number of seconds above 0; got 0"),
        (1, float("nan"), "--every must be a number of seconds above 0; got nan"),
    ],
)
def test_an_impossible_plan_is_refused(number: int, every_seconds: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(number, every_seconds)
