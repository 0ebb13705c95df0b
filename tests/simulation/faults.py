"""Which faults a seed has, and how hard: each kind is off in half of the seeds (swarm testing).

A world with every fault at once hides bugs: under constant throttling, nothing gets far enough to go wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulation.choices import Table

THROTTLED: Final = "throttled"
CRASH_BEFORE: Final = "crash before"
CRASH_AFTER: Final = "crash after"
REQUEST_LOST: Final = "request lost"
REPLY_LOST: Final = "reply lost"
REPEATED: Final = "repeated by the client after a lost reply"
REFUSED: Final = "refused"
NOT_ALLOWED: Final = "not allowed"
STALE: Final = "stale"
CROWDED: Final = "others take every slot of this second"
STOPPED_MIRROR: Final = "stops"
LATE_RECORD: Final = "the completion record comes late"
SLOW_SECONDS: Final = (0.5, 3.0, 20.0, 100.0)
"""How long a call takes when it is slow; a number in a fault table is this fault."""

_Highest = Mapping[Any, float]
"""The highest probability of each fault."""

_SLOW: Final[_Highest] = dict.fromkeys(SLOW_SECONDS, 0.06)
_HOURS: Final = (60.0, 900.0, 7200.0, 86400.0)

READ: Final[_Highest] = {THROTTLED: 0.05, CRASH_BEFORE: 0.03, CRASH_AFTER: 0.03, **_SLOW}
WRITE: Final[_Highest] = {**READ, REQUEST_LOST: 0.05, REPLY_LOST: 0.05, REPEATED: 0.05}
SUBMIT: Final[_Highest] = {
    **READ,
    **dict.fromkeys(SLOW_SECONDS, 0.15),
    REQUEST_LOST: 0.2,
    REPLY_LOST: 0.3,
    REFUSED: 0.05,
    CRASH_AFTER: 0.2,
    NOT_ALLOWED: 0.05,
}
SLOT: Final[_Highest] = {**READ, REPLY_LOST: 0.05, CROWDED: 0.5}
SUBMIT_ON_DEMAND: Final[_Highest] = {**SUBMIT, REQUEST_LOST: 0.3, REPLY_LOST: 0.6, CRASH_AFTER: 0.4, REFUSED: 0.02}
"""Harder, because a twin on on-demand costs money and few runs come there."""
LOOK_UP: Final[_Highest] = {**READ, STALE: 0.6}
STORE: Final[_Highest] = {REQUEST_LOST: 0.03, REPLY_LOST: 0.03, CRASH_BEFORE: 0.01, CRASH_AFTER: 0.02, **_SLOW}
CLAIM: Final[_Highest] = {THROTTLED: 0.1, REPLY_LOST: 0.15, CRASH_BEFORE: 0.05, CRASH_AFTER: 0.08, **_SLOW}
EVENT: Final[_Highest] = {"lost": 0.4, "twice": 0.3, **dict.fromkeys(_HOURS, 0.08)}
"""A number is a delay in seconds."""
HOST: Final[_Highest] = {"notice": 0.7, "lost": 0.5, "cut off": 0.8, "does not start": 0.3, "drained": 0.1}
BOOT: Final[_Highest] = {150.0: 0.3, 400.0: 0.3, 1500.0: 0.1}
"""From the start of a container on spot until it claims, where that is slow."""
IMAGE: Final[_Highest] = {150.0: 0.3, 400.0: 0.3, 800.0: 0.2}
"""How long an image takes to come to an on-demand host. The money that is reserved for a twin covers no container that
runs long before its claim is refused."""
START: Final[_Highest] = {"hangs": 0.25}
"""A container that is never started: its job stays in STARTING until somebody stops it."""
CAPACITY: Final[_Highest] = {"none": 0.4, "stuck": 0.15, 600.0: 0.3, 3600.0: 0.2}
"""How long a job waits; "none" ends with Batch's time limit, "stuck" has a cause that Batch's limit does not know."""
ON_DEMAND_HOST: Final[_Highest] = {"lost": 0.3, "does not start": 0.15, "drained": 0.05}
CAP_USD: Final[_Highest] = {0: 0.3, 1: 0.3, 3: 0.3, 80: 0.3}
"""What somebody sets a cap to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swarm:
    """The fault tables of one seed."""

    read: Table = ()
    write: Table = ()
    submit: Table = ()
    submit_on_demand: Table = ()
    look_up: Table = ()
    store: Table = ()
    claim: Table = ()
    event: Table = ()
    host: Table = ()
    boot: Table = ()
    capacity: Table = ()
    on_demand_capacity: Table = ()
    on_demand_host: Table = ()
    cap: Table = ()
    switch: Table = ()
    redelivery: Table = ()
    cancel: Table = ()
    pause: Table = ()
    regret: Table = ()
    slot: Table = ()
    failure: Table = ()
    priority: Table = ()
    late_host: Table = ()
    image: Table = ()
    start: Table = ()
    quota: Table = ()
    mirror: Table = ()

    @classmethod
    def of(cls, seed: int) -> "Swarm":
        """Draw the tables of a seed."""
        random = Random(seed)
        return cls(
            read=_table(random, READ),
            write=_table(random, WRITE),
            submit=_table(random, SUBMIT),
            submit_on_demand=_table(random, SUBMIT_ON_DEMAND),
            look_up=_table(random, LOOK_UP),
            store=_table(random, STORE),
            claim=_table(random, CLAIM),
            event=_table(random, EVENT),
            host=_table(random, HOST),
            boot=_table(random, BOOT),
            capacity=_table(random, CAPACITY),
            on_demand_capacity=_table(random, {"none": 0.3, "stuck": 0.1, 600.0: 0.3}),
            on_demand_host=_table(random, ON_DEMAND_HOST),
            cap=_table(random, CAP_USD),
            switch=_table(random, {"off": 0.5}),
            redelivery=_table(random, {"while the first runs": 0.5}),
            cancel=_table(random, {"cancel": 0.7}),
            pause=_table(random, {"pause": 0.8}),
            regret=_table(random, {"cancel": 0.4, "pause": 0.4}),
            slot=_table(random, SLOT),
            failure=_table(random, {"fails": 0.15, "stops early": 0.15, "plain": 0.4}),
            priority=_table(random, {"priority": 0.8}),
            late_host=_table(random, {"launched as its job is given up": 0.5}),
            image=_table(random, IMAGE),
            start=_table(random, START),
            quota=_table(random, {"reached": 0.3}),
            mirror=_table(random, {STOPPED_MIRROR: 0.4, LATE_RECORD: 0.5}),
        )


def _table(random: Random, highest: _Highest) -> Table:
    cumulative = 0.0
    rows = []
    for value, probability in highest.items():
        if random.random() < 0.5:
            cumulative += probability * random.random()
            rows.append((cumulative, value))
    return tuple(rows)
