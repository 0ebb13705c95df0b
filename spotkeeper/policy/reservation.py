"""How much must be reserved before a job may be submitted, and what is booked when it has ended.

The bill of an instance begins before the container starts (boot, image) and ends after it has stopped (Batch gives an
idle host back after some minutes), and AWS tells neither time to us. So both are bounds, added when money is reserved
and booked in full when it is settled: what is settled is never more than what was reserved, and never less than the
bill as long as the bounds hold. docs/live-checks.md says how to check them in an account.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from spotkeeper.policy.money import cost_microusd

BOOT_SECONDS: Final = 900
"""From launch to the start of the container: boot, join the cluster, pull a GPU image of 10 GB at 20 MB/s."""
STOP_SECONDS: Final = 150
"""From the time limit to the end of the container: the agent's stop time-out of 110 s, and a lag of Batch."""
TEARDOWN_SECONDS: Final = 600
"""Until Batch gives the idle host back. docs.aws.amazon.com/batch/latest/userguide/allocation-strategies.html"""
STARTING_SECONDS: Final = 1200
"""A job that is STARTING for longer is stopped: its image does not come, or its container hangs. AWS Batch bounds that
by nothing, as its time limit counts from the start of the container. It is more than twice what the image of
`BOOT_SECONDS` takes."""
DOWNLOADING_SECONDS: Final = 7200
"""The same of a job on SageMaker whose channels or checkpoints are copied to its machines first, which is no hang: at
100 MB/s, 720 GB come in that time. SageMaker tells no progress, so what takes longer cannot be told from a hang."""
UNSEEN_SECONDS: Final = 900
"""How much later that is seen, at its beginning and its end together: three periods of the sweeper, so one may fail."""
HANG_SECONDS: Final = STARTING_SECONDS + UNSEEN_SECONDS
"""How long a host is billed, at most, for a container that does not start, as long as sweeps come."""
LISTED_SECONDS: Final = 600
"""After how long, at most, ListJobs shows a job."""
FENCED_SECONDS: Final = 180
"""How long a twin runs before its claim is refused and it exits, the ledger's slowest answer included."""
AROUND_SECONDS: Final = BOOT_SECONDS + TEARDOWN_SECONDS
"""Billed around every container."""
MOST_TWINS: Final = 1
"""Jobs that an on-demand submission may leave beside the one that counts: `submit` sends it at most twice."""
TWIN_SECONDS: Final = max(FENCED_SECONDS + AROUND_SECONDS, LISTED_SECONDS + UNSEEN_SECONDS + TEARDOWN_SECONDS)
"""What a twin is billed: it is made when the reply to SubmitJob was lost and look-up did not show the first job.

It ends by itself, or, if it hangs, with the sweep that sees it."""
LEASE_SECONDS: Final = 3600
"""Spot is leased by the hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineTime:
    """One container's time on a machine, at the price of that machine."""

    seconds: float
    """From the start of the container to its end."""
    usd_per_hour: Decimal
    before_seconds: float = BOOT_SECONDS
    """From the launch of its host to the start of the container, or to the end of one that did not start."""


_BESIDE_SECONDS: Final = STOP_SECONDS + AROUND_SECONDS + UNSEEN_SECONDS + MOST_TWINS * TWIN_SECONDS
"""Around an attempt and its start."""


def longest_start_seconds(*, copies_first: bool) -> int:
    """Return how long a job may be STARTING before it is stopped.

    Args:
        copies_first: SageMaker copies channels or checkpoints to its machines before its containers start.
    """
    return DOWNLOADING_SECONDS if copies_first else STARTING_SECONDS


def before_seconds(*, waited_seconds: float, start_seconds: int = STARTING_SECONDS) -> float:
    """Return the most that a host was billed before its container started, or was given up.

    Args:
        waited_seconds: From the creation of the job, before which no host was launched for it.
        start_seconds: How long its start may take (`longest_start_seconds`).
    """
    return min(max(BOOT_SECONDS, waited_seconds), BOOT_SECONDS + start_seconds + UNSEEN_SECONDS)


def on_demand_microusd(usd_per_hour: Decimal, attempt_seconds: int, start_seconds: int = STARTING_SECONDS) -> int:
    """Return what one on-demand submission can cost at most, with a start that hangs and the twin of a lost reply.

    Args:
        usd_per_hour: Price of the dearest type that Batch may choose.
        attempt_seconds: Batch's time limit of the attempt.
        start_seconds: How long its start may take (`longest_start_seconds`).
    """
    return cost_microusd(usd_per_hour, attempt_seconds + start_seconds + _BESIDE_SECONDS)


def affordable_seconds(usd_per_hour: Decimal, available_microusd: int, start_seconds: int = STARTING_SECONDS) -> int:
    """Return the longest attempt that can be reserved for with so much: 0 or less if not even its start can."""
    seconds = Decimal(available_microusd) * 3600 / (usd_per_hour * 1_000_000)
    return int(seconds) - start_seconds - _BESIDE_SECONDS


def lease_microusd(usd_per_hour: Decimal, seconds: float = LEASE_SECONDS) -> int:
    """Return what so many further seconds on the dearest pool can cost at most."""
    return cost_microusd(usd_per_hour, seconds)


def settled_microusd(times: Iterable[MachineTime]) -> int:
    """Return what is booked for containers that have ended: each with the whole of its start and its end."""
    return sum(
        cost_microusd(time.usd_per_hour, time.before_seconds + time.seconds + TEARDOWN_SECONDS) for time in times
    )
