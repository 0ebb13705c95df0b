"""Events on their way to handlers: EventBridge, then a queue, then an invocation. At least once, in any order.

A message whose invocation fails comes again after the visibility time-out, and after the last receipt goes to the
dead letters. It may come again although the first invocation still runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import Trace
from tests.simulation.faults import Swarm
from tests.simulation.sched import Program, Scheduler

VISIBILITY_SECONDS: Final = 180.0
HANDLER_TIME_OUT_SECONDS: Final = 60.0
RECEIPTS: Final = 5


@dataclass(eq=False, slots=True)
class Message:
    """One event, for one handler."""

    name: str
    kind: str
    subject: str
    at: str
    receipts: int = 0
    is_acknowledged: bool = False
    is_dead: bool = False
    is_lost: bool = False


Invoke = Callable[[Message, str, float, Callable[[], None]], Program]
"""Starts a handler for a message under a name, with a deadline; the callable is called if it succeeds."""


class Delivery:
    """Rules, queues and dead letters."""

    def __init__(self, scheduler: Scheduler, choices: Choices, swarm: Swarm, trace: Trace, invoke: Invoke) -> None:
        self.messages: list[Message] = []
        self._scheduler = scheduler
        self._choices = choices
        self._swarm = swarm
        self._trace = trace
        self._invoke = invoke
        self._has_ceased = False

    def emit(self, name: str, kind: str, subject: str) -> None:
        """Send an event off."""
        message = Message(name, kind, subject, iso(self._scheduler.now_seconds))
        self.messages.append(message)
        fate = self._choices.draw(f"event {name}", self._swarm.event)
        if fate == "lost" or self._has_ceased:
            self._trace("events", f"{name} is lost")
            message.is_lost = True
            return
        delay_seconds = fate if isinstance(fate, float) else 1.0
        if isinstance(fate, float):
            self._trace("events", f"{name} takes {delay_seconds:.0f} s")
        self._scheduler.after(delay_seconds, lambda: self._receive(message))
        if fate == "twice":
            self._scheduler.after(delay_seconds, lambda: self._receive(message))

    def cease(self) -> None:
        """Lose every message from now on, until `redrive`."""
        self._has_ceased = True

    def redrive(self) -> None:
        """Deliver again, also what is dead or lost."""
        self._has_ceased = False
        for message in self.messages:
            if message.is_dead or message.is_lost:
                message.is_dead = message.is_lost = False
                message.receipts = 0
                self._receive(message)

    def _receive(self, message: Message) -> None:
        if self._has_ceased:
            message.is_lost = not message.is_acknowledged
            return
        if message.receipts >= RECEIPTS:
            message.is_dead = not message.is_acknowledged
            return
        message.receipts += 1
        name = f"{message.kind} {message.name}, receipt {message.receipts}"

        def acknowledge() -> None:
            message.is_acknowledged = True

        self._invoke(message, name, self._scheduler.now_seconds + HANDLER_TIME_OUT_SECONDS, acknowledge)
        if self._choices.draw(f"{name}: again", self._swarm.redelivery) is not None:
            self._scheduler.after(0.07, lambda: self._receive(message))
        self._scheduler.after(VISIBILITY_SECONDS, lambda: self._reappear(message))

    def _reappear(self, message: Message) -> None:
        if not message.is_acknowledged and not message.is_dead:
            self._receive(message)
