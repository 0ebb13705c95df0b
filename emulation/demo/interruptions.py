"""When the demo takes capacity away: at seeded points of the training's progress, however fast the machine."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from emulation.ec2.market import SpotMarket
from spotkeeper.contract.log_lines import LogEvent

_FIRST_FRACTION: Final = 0.04
_LAST_FRACTION: Final = 0.44
"""The rest is for a fast machine, which may reach the end before its trainer has seen the last notice."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One reclaim: how far the training has come by then, and whether EC2 gives notice of it."""

    fraction: float
    notice: bool


def draw(seed: int, *, with_notice: int, without_notice: int) -> tuple[Interruption, ...]:
    """Return so many interruptions of each kind, in a seeded order at seeded points, well apart.

    Raises:
        ValueError: if a count is negative.
    """
    if min(with_notice, without_notice) < 0:
        raise ValueError(f"numbers of interruptions must be 0 or more; got {with_notice} and {without_notice}")
    random = Random(f"demo {seed}")  # noqa: S311  not for secrets
    notices = [True] * with_notice + [False] * without_notice
    random.shuffle(notices)
    width = (_LAST_FRACTION - _FIRST_FRACTION) / max(1, len(notices))
    return tuple(
        Interruption(_FIRST_FRACTION + (index + random.uniform(0.3, 0.7)) * width, notice)
        for index, notice in enumerate(notices)
    )


class Interrupter:
    """Carries the interruptions out as the training reports its progress."""

    def __init__(self, market: SpotMarket, planned: tuple[Interruption, ...]) -> None:
        self._market = market
        self._left = list(planned)
        self._instance_id: str | None = None

    def see(self, event: dict[str, Any]) -> Interruption | None:
        """Take note of a structured line; return the interruption that it set off, if it did."""
        if event["event"] == LogEvent.CLAIMED:
            self._instance_id = event.get("instance_id")
        if event["event"] != LogEvent.PROGRESS or not self._left or self._instance_id is None:
            return None
        if event["step"] / event["total"] < self._left[0].fraction:
            return None
        interruption = self._left.pop(0)
        instance_id, self._instance_id = self._instance_id, None
        self._market.reclaim(instance_id, notice=interruption.notice)
        return interruption
