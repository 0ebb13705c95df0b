import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from emulation.aws import Aws
from emulation.clock import Clock
from emulation.events.router import Event, Router, rate_seconds
from emulation.templates.assembly import Assembly
from emulation.templates.deployment import Deployment
from emulation.templates.load import load


@pytest.fixture
def deployment(sample: Callable[..., Assembly], aws: Aws) -> Deployment:
    return load(sample(), aws, environment="dev")[0]


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock(36_000) as clock:
        yield clock


def job_event(deployment: Deployment, **changes: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2026-11-23T10:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {"jobQueue": next(iter(deployment.job_queues)), "status": "RUNNING", "quote": 'a "quoted" <text>'},
        **changes,
    }


def received(aws: Aws, queue_url: str) -> list[Any]:
    messages = aws.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def events_url(deployment: Deployment) -> str:
    return deployment.event_sources[0].queue_url


def pass_on_clock(clock: Clock, seconds: float, read: Callable[[], int]) -> int:
    """Return what `read` returns on the clock's thread after so many seconds."""
    values: list[int] = []
    done = threading.Event()

    def callback() -> None:
        values.append(read())
        done.set()

    clock.after(seconds, callback)
    assert done.wait(10)
    return values[0]


def test_an_event_reaches_the_queue_of_its_rule_whole(deployment: Deployment, aws: Aws, clock: Clock) -> None:
    woken: list[str] = []
    router = Router(deployment, aws.sqs, clock, on_delivery=woken.append)
    event = job_event(deployment)

    router.publish(event)

    assert received(aws, events_url(deployment)) == [event]
    (delivery,) = router.delivered
    assert (delivery.rule, delivery.event) == ("Changes", event)
    assert woken == [deployment.event_sources[0].queue_arn] == [delivery.queue_arn]
    assert router.unmatched == ()


@pytest.mark.parametrize(
    "change", [{"account": "999999999999"}, {"source": "aws.ec2"}, {"detail": {"jobQueue": "another queue"}}]
)
def test_an_event_that_no_rule_wants_goes_nowhere_and_is_remembered(
    deployment: Deployment, aws: Aws, clock: Clock, change: dict[str, Any]
) -> None:
    router = Router(deployment, aws.sqs, clock)
    event = job_event(deployment, **change)

    router.publish(event)

    assert received(aws, events_url(deployment)) == []
    assert router.delivered == ()
    assert router.unmatched == (event,)


def test_a_disabled_rule_delivers_nothing(deployment: Deployment, aws: Aws, clock: Clock) -> None:
    rules = tuple(replace(rule, enabled=False) for rule in deployment.rules)
    router = Router(replace(deployment, rules=rules), aws.sqs, clock)

    router.publish(job_event(deployment))
    router.start_schedules()

    assert router.delivered == ()


@pytest.mark.parametrize("copies", [0, 2])
def test_a_fault_can_lose_or_duplicate_events(deployment: Deployment, aws: Aws, clock: Clock, copies: int) -> None:
    def faults(event: Event) -> Sequence[Event]:
        return [event] * copies

    router = Router(deployment, aws.sqs, clock, faults=faults)

    router.publish(job_event(deployment))

    assert received(aws, events_url(deployment)) == [job_event(deployment)] * copies


def test_what_cannot_be_delivered_goes_to_the_targets_dead_letters(
    deployment: Deployment, aws: Aws, clock: Clock
) -> None:
    router = Router(deployment, aws.sqs, clock)
    aws.sqs.delete_queue(QueueUrl=events_url(deployment))

    router.publish(job_event(deployment))

    (dead_letters,) = (queue for queue in deployment.queues.values() if "DeadLetters" in queue.name)
    assert received(aws, dead_letters.url) == [job_event(deployment)]
    assert router.delivered[0].queue_arn == dead_letters.arn


def test_a_rate_fires_again_and_again_at_the_clocks_speed_until_stopped(
    deployment: Deployment, aws: Aws, clock: Clock
) -> None:
    twice = threading.Semaphore(0)
    router = Router(deployment, aws.sqs, clock, on_delivery=lambda _: twice.release())

    router.start_schedules()  # an hour takes 0.1 s
    assert twice.acquire(timeout=10)
    assert twice.acquire(timeout=10)
    router.stop()

    first, second, *_ = router.delivered
    assert (first.rule, second.rule) == ("EveryHour", "EveryHour")
    assert (first.event["source"], first.event["detail-type"]) == ("aws.events", "Scheduled Event")
    assert first.event["id"] != second.event["id"]
    # The clock runs one callback at a time: what it ran before these is over.
    settled = pass_on_clock(clock, 0, lambda: len(router.delivered))
    assert pass_on_clock(clock, 0.5, lambda: len(router.delivered)) == settled


def test_a_schedule_that_is_no_rate_is_refused(deployment: Deployment) -> None:
    (rule,) = (rule for rule in deployment.rules if rule.schedule)

    assert rate_seconds(replace(rule, schedule="rate(5 minutes)")) == 300
    with pytest.raises(
        ValueError, match=r"EveryHour has the schedule 'cron\(0 8 \* \* \? \*\)'; the emulation runs rate"
    ):
        rate_seconds(replace(rule, schedule="cron(0 8 * * ? *)"))
