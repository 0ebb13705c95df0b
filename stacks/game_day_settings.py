"""Whether an environment may be drilled, and how much of it."""

from dataclasses import dataclass
from typing import Final

from stacks.setting_types import check_types

_NUM_HOSTS: Final = range(1, 101)


@dataclass(frozen=True, kw_only=True, slots=True)
class GameDay:
    """Opt in to drills with AWS FIS: people who are given `DrillPolicy` may interrupt spot hosts of some profiles.

    Hosts of the profiles are tagged for it, which AWS Batch gives new hosts only: those that run keep their tags.
    """

    profiles: tuple[str, ...]
    """Names of the environment's profiles whose spot hosts may be interrupted; none else can be."""
    num_hosts: int = 1
    """How many of those hosts one drill interrupts, 1 to 100. A number and no share of them: AWS FIS has a quota of
    targets, 5 until AWS raises it, that a share of a large environment would exceed (runbooks/run-a-drill.md)."""

    def __post_init__(self) -> None:
        """Check the number; the environment checks the profiles."""
        check_types(self)
        if type(self.num_hosts) is not int or self.num_hosts not in _NUM_HOSTS:
            raise ValueError(f"GameDay.num_hosts must be a whole number from 1 to 100, got {self.num_hosts!r}")


def check_game_day(game_day: GameDay | None, profiles: list[str]) -> None:
    """Check the profiles of a game day against those of its environment.

    Raises:
        ValueError: naming the field, the value and those allowed.
    """
    if game_day is not None and (not game_day.profiles or not set(game_day.profiles) <= set(profiles)):
        raise ValueError(
            f"GameDay.profiles must name at least one of Environment.profiles {profiles}, got {game_day.profiles}: "
            "correct the names, or set game_day to None"
        )
