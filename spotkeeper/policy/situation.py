"""What is known of a run when placement decides where it goes on, and how such a decision is told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from spotkeeper.policy.market import Market, Mode


class Spot(StrEnum):
    """What is known of spot capacity."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"
    """The run is on on-demand and no standby waits on spot: nothing tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """A run at the start of a tick: the time until it can be decided again.

    Hours are of wall clock on one machine, dollars are US dollars. Nothing here is a guess but `changeover_hours` and
    `on_demand_wait_hours`, which are the most that the deadline is to be kept for.
    """

    remaining_hours: float
    """Work still to do. Work that is done and not yet saved counts as done; see `lost_hours`."""
    hours_left: float | None
    """Until the deadline; None: there is none."""
    tick_hours: float
    changeover_hours: float
    """From a machine's start to the first step of new work: boot, image, restore. Paid, and no progress."""
    market: Market | None = None
    """Where the run is, after a preemption: None has no machine."""
    overhead_hours: float = 0.0
    """What is still to come of the changeover of the machine it has."""
    spot: Spot = Spot.DOWN
    spot_hours: float = 0.0
    """For how long spot has been so."""
    num_spot_losses: int = 0
    """How often spot has gone while somebody watched: in this run, or before it in its pool."""
    spot_up_hours: float = 0.0
    """For how long spot was there while somebody watched."""
    num_spot_returns: int = 0
    """How often spot has come back while somebody watched."""
    spot_down_hours: float = 0.0
    """For how long spot was away while somebody watched."""
    patience_hours: float | None = None
    """Without a deadline: so long without spot, and on-demand is wanted; None: never."""
    has_standby: bool = False
    """A standby waits on spot, or has its machine there."""
    lost_hours: float = 0.0
    """The most work that a preemption can take back."""
    on_demand_wait_hours: float = 0.0
    """The longest that on-demand may let a run wait for a machine."""
    spot_usd_per_hour: float = 0.0
    on_demand_usd_per_hour: float = 0.0
    on_demand_usd_left: float = math.inf
    """What may still be spent on on-demand."""
    usd_left: float = math.inf
    """What may still be spent in all."""
    mode: Mode = Mode.DEADLINE_FIRST

    @property
    def is_spot_worth(self) -> bool:
        """Whether spot is there and costs less than on-demand; some types' spot does not."""
        return self.spot is Spot.UP and self.spot_usd_per_hour < self.on_demand_usd_per_hour

    def __post_init__(self) -> None:
        """Refuse what no run can be in.

        Raises:
            ValueError: naming the field, its value and what is allowed.
        """
        if not 0 < self.tick_hours < math.inf:
            raise ValueError(f"tick_hours must be above 0 and finite, got {self.tick_hours!r}")
        if self.hours_left is not None and not math.isfinite(self.hours_left):
            raise ValueError(f"hours_left must be finite, or None without a deadline, got {self.hours_left!r}")
        if not (
            0 <= self.remaining_hours < math.inf
            and 0 <= self.changeover_hours < math.inf
            and 0 <= self.overhead_hours < math.inf
            and 0 <= self.spot_hours < math.inf
            and self.num_spot_losses >= 0
            and 0 <= self.spot_up_hours < math.inf
            and self.num_spot_returns >= 0
            and 0 <= self.spot_down_hours < math.inf
            and 0 <= self.lost_hours < math.inf
            and 0 <= self.on_demand_wait_hours < math.inf
            and 0 <= self.spot_usd_per_hour < math.inf
            and 0 <= self.on_demand_usd_per_hour < math.inf
        ):
            self._refuse()
        if math.isnan(self.usd_left) or math.isnan(self.on_demand_usd_left):
            raise ValueError(f"dollars left must be numbers, got {self.usd_left!r} and {self.on_demand_usd_left!r}")

    def _refuse(self) -> None:
        names = [name for name in self.__slots__ if name.endswith(("_hours", "_usd_per_hour", "_losses", "_returns"))]
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be from 0 up and finite, got {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Where a run goes on until it is decided again, and why."""

    market: Market | None
    """None: without a machine, waiting for spot, or done."""
    reason: str
    is_forced: bool = False
    """The deadline leaves no choice."""
    wants_standby: bool = False
    """While on on-demand: let a standby wait on spot, the only way to learn whether it is there."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the reason rests on, by name with its unit."""
