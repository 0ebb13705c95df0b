"""Every decision of the simulated world, by a name that says what it is about.

Explored, a decision is drawn from the seed; what is not dull is recorded under its name. Replayed, a decision is what
was recorded, and dull where nothing was: so any subset of a recording is a schedule again, and can be shrunk. Names
are causal ("r1: job r1-1.a, host 2"), because those mean the same thing when other decisions are left out.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

Table = tuple[tuple[float, Any], ...]
"""Values that are not dull, each with the cumulative probability up to which it is drawn."""


class Choices:
    """The decisions of one simulation: from a seed, or from a recording."""

    def __init__(self, *, seed: int | None = None, recorded: Mapping[str, Any] | None = None) -> None:
        self.decisions: dict[str, Any] = {}
        """What was decided, other than the dull."""
        self._random = None if seed is None else Random(seed)
        self._shapes = None if seed is None else Random(f"shape of {seed}")
        self._recorded = recorded or {}
        self._counts: dict[str, int] = {}
        self._is_calm = False

    def calm(self) -> None:
        """Decide everything dull from now on."""
        self._is_calm = True

    def draw(self, name: str, table: Table) -> Any:
        """Return a value of the table, or None, which is dull."""
        if self._is_calm or not (table or self._recorded):
            return None
        key = self._key(name)
        if self._random is None:
            value = self._recorded.get(key)
        else:
            level = self._random.random()
            if level >= table[-1][0]:
                return None
            value = next(value for cumulative, value in table if level < cumulative)
        if value is not None:
            self.decisions[key] = value
        return value

    def among(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of the options, each as likely; the first is dull."""
        return self._among(name, options, self._random)

    def shape(self, name: str, options: Sequence[Any]) -> Any:
        """As `among`, for what a world holds at all, from a stream of its own.

        So a seed whose world holds none of a new kind means what it meant before there was that kind.
        """
        return self._among(name, options, self._shapes)

    def _among(self, name: str, options: Sequence[Any], random: Random | None) -> Any:
        if self._is_calm:
            return options[0]
        key = self._key(name)
        value = self._recorded.get(key, options[0]) if random is None else random.choice(options)
        if value != options[0]:
            self.decisions[key] = value
        return value

    def _key(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name} ({count})"
