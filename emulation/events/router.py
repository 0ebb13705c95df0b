"""The event bus: rules of the deployment, EventBridge's matching, delivery into moto's queues.

moto's own delivery rebuilds events and loses their account, and stops at the first target that it does not know.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from emulation.clock import Clock, Timer
from emulation.events.event_pattern import matches
from emulation.templates.deployment import Deployment, Rule, RuleTarget

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Event = Mapping[str, Any]

_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """An event that a rule sent to a queue."""

    event: Event
    rule: str
    """The rule's logical id."""
    queue_arn: str
    """The target, or its dead-letter queue where the target could not be reached."""


def deliver_once(event: Event) -> Sequence[Event]:
    """Deliver each event as it came."""
    return (event,)


class Router:
    """Delivers events to the queues of the rules that they match.

    Args:
        deployment: Whose rules and queues.
        sqs: Client of the emulation's endpoint.
        clock: Paces schedules and names their time.
        faults: Given an event, the events that arrive: none (lost), several (duplicated). EventBridge promises
            at-least-once for some sources and best effort for others; a test can ask for the worst of both.
        on_delivery: Called with the queue's ARN after each delivery, so that nobody has to poll fast.
    """

    def __init__(
        self,
        deployment: Deployment,
        sqs: "SQSClient",
        clock: Clock,
        *,
        faults: Callable[[Event], Sequence[Event]] = deliver_once,
        on_delivery: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._deployment = deployment
        self._sqs = sqs
        self._clock = clock
        self._faults = faults
        self._on_delivery = on_delivery
        self._lock = threading.Lock()
        self._delivered: list[Delivery] = []
        self._unmatched: list[Event] = []
        self._timers: dict[str, Timer] = {}
        self._sequence = 0
        self._stopped = False

    @property
    def delivered(self) -> tuple[Delivery, ...]:
        """What was delivered so far, oldest first."""
        with self._lock:
            return tuple(self._delivered)

    @property
    def unmatched(self) -> tuple[Event, ...]:
        """Events that no rule wanted, oldest first."""
        with self._lock:
            return tuple(self._unmatched)

    def publish(self, event: Event) -> None:
        """Deliver a complete EventBridge event to every rule that it matches, before returning."""
        for arriving in self._faults(event):
            rules = [
                rule
                for rule in self._deployment.rules
                if rule.enabled and rule.pattern and matches(rule.pattern, arriving)
            ]
            if not rules:
                with self._lock:
                    self._unmatched.append(arriving)
            for rule in rules:
                self._deliver(rule, arriving)

    def start_schedules(self) -> None:
        """Fire rules with a `rate(…)`, in AWS's intervals divided by the clock's speed; after `stop`, again.

        Raises:
            ValueError: if a rule has a schedule of another form.
        """
        with self._lock:
            self._stopped = False
        for rule in self._deployment.rules:
            if rule.enabled and rule.schedule:
                self._schedule(rule, rate_seconds(rule))

    def stop(self) -> None:
        """Fire no more schedules."""
        with self._lock:
            self._stopped = True
            for timer in self._timers.values():
                timer.cancel()

    def _schedule(self, rule: Rule, interval_seconds: float) -> None:
        def fire() -> None:
            self._deliver(rule, self._scheduled_event(rule))
            self._schedule(rule, interval_seconds)

        with self._lock:
            if not self._stopped:
                self._timers[rule.name] = self._clock.after(self._clock.real_seconds(interval_seconds), fire)

    def _scheduled_event(self, rule: Rule) -> Event:
        with self._lock:
            self._sequence += 1
            number = self._sequence
        deployment = self._deployment
        return {
            "version": "0",
            "id": f"00000000-0000-4000-8000-{number:012d}",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": deployment.account,
            "time": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": deployment.region,
            "resources": [f"arn:aws:events:{deployment.region}:{deployment.account}:rule/{rule.name}"],
            "detail": {},
        }

    def _deliver(self, rule: Rule, event: Event) -> None:
        for target in rule.targets:
            reached = self._send(target, json.dumps(event))
            with self._lock:
                self._delivered.append(Delivery(event=event, rule=rule.logical_id, queue_arn=reached))
            self._on_delivery(reached)

    def _send(self, target: RuleTarget, body: str) -> str:
        try:
            self._sqs.send_message(QueueUrl=target.queue_url, MessageBody=body)
        except ClientError:
            # A target that is missing or refuses is not retried: docs.aws.amazon.com/eventbridge, eb-rule-dlq.
            if target.dead_letter_arn not in self._deployment.queues:
                raise
            self._sqs.send_message(QueueUrl=self._deployment.queues[target.dead_letter_arn].url, MessageBody=body)
            return target.dead_letter_arn
        return target.queue_arn


def rate_seconds(rule: Rule) -> float:
    """Return the interval of a rule's schedule.

    Raises:
        ValueError: if the schedule is not a `rate(…)`.
    """
    rate = _RATE.fullmatch(rule.schedule)
    if rate is None:
        raise ValueError(
            f"rule {rule.logical_id} has the schedule {rule.schedule!r}; the emulation runs rate(N minutes|hours|days)"
        )
    return float(rate[1]) * _SECONDS[rate[2]]
