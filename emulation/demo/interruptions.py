"""When the demo takes capacity away: at seeded steps of the training, however fast the machine."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from emulation.ec2.market import SpotMarket
from spotkeeper.contract.log_lines import LogEvent

STEPS_FOR_ONE: Final = 25
"""Two seconds at the demo's pace: between two interruptions there is training to be seen."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One reclaim: how many steps have been done by then, and whether EC2 gives notice of it."""

    step: int
    notice: bool


def draw(seed: int, *, with_notice: int, without_notice: int) -> tuple[Interruption, ...]:
    """Return so many interruptions of each kind, in a seeded order at seeded steps, well apart.

    Raises:
        ValueError: if a count is negative.
    """
    if min(with_notice, without_notice) < 0:
        raise ValueError(f"numbers of interruptions must be 0 or more; got {with_notice} and {without_notice}")
    random = Random(f"demo {seed}")  # noqa: S311  not for secrets
    notices = [True] * with_notice + [False] * without_notice
    random.shuffle(notices)
    return tuple(
        Interruption(round((index + random.uniform(0.3, 0.7)) * STEPS_FOR_ONE), notice)
        for index, notice in enumerate(notices)
    )


class Interrupter:
    """Carries the interruptions out as the training reports its progress."""

    def __init__(self, market: SpotMarket, planned: tuple[Interruption, ...]) -> None:
        self._market = market
        self._left = list(planned)
        self._instance_id: str | None = None

    @property
    def next_is_last(self) -> bool:
        """Whether one interruption is left."""
        return len(self._left) == 1

    def due(self, event: dict[str, Any]) -> Interruption | None:
        """Take note of a structured line; return the interruption that is due by it, if one is."""
        if event["event"] == LogEvent.CLAIMED:
            self._instance_id = event.get("instance_id")
        if event["event"] != LogEvent.PROGRESS or not self._left or self._instance_id is None:
            return None
        return self._left[0] if event["step"] >= self._left[0].step else None

    def carry_out(self) -> None:
        """Take the machine of the run away, as the interruption that is due says."""
        assert self._instance_id is not None
        interruption = self._left.pop(0)
        instance_id, self._instance_id = self._instance_id, None
        self._market.reclaim(instance_id, notice=interruption.notice)
