"""Random sequences of operations on two sides, and what to print when the sides differ."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.control.budget import OverBudget, SwitchedOff
from spotkeeper.control.ports import Conflict
from tests.differential.operations import BEGINNING, THEMES, Known, Operation
from tests.differential.sides import Refused, Side

NUM_ACTORS: Final = 2
SHORTEST, LONGEST = 5, 15

Sides = Callable[[], AbstractContextManager[tuple[Side, Side]]]
"""Gives two empty sides."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation by one actor. What it does exactly follows from the seed and from what the actor knows."""

    operation: Operation
    actor: int | None
    """None: all have seen it."""
    seed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Steps after which the sides differ, and how."""

    steps: tuple[Step, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def sequence(seed: int) -> tuple[Step, ...]:
    """Return the steps of a seed."""
    random = Random(seed)
    theme = random.choice(THEMES)
    drawn = random.choices(list(theme), list(theme.values()), k=random.randint(SHORTEST, LONGEST) - len(BEGINNING))
    beginning = [Step(operation, None, 4 * seed) for operation in BEGINNING]
    return (
        *beginning,
        *(Step(operation, random.randrange(NUM_ACTORS), random.randrange(2**32)) for operation in drawn),
    )


def compare(steps: Sequence[Step], sides: Sides) -> Difference | None:
    """Do the steps to both sides; return the first difference in a result or a refusal, or in an item at the end."""
    lines: list[str] = []
    actors = [Known() for _ in range(NUM_ACTORS)]
    with sides() as (fake, real):
        for step in steps:
            call = step.operation(Random(step.seed), actors[step.actor or 0])
            if call is None:
                continue
            results = _outcome(call.act, fake), _outcome(call.act, real)
            lines.append(f"  {'all' if step.actor is None else f'actor {step.actor}'}: {call.text}")
            if results[0] != results[1]:
                return Difference(tuple(steps), (*lines, f"  fake: {results[0]}", f"  real: {results[1]}"))
            for actor in actors if step.actor is None else [actors[step.actor]]:
                actor.learn(results[0])
        items = fake.items(), real.items()
    if items[0] == items[1]:
        return None
    differing = [key for key in sorted({*items[0], *items[1]}) if items[0].get(key) != items[1].get(key)]
    told = [f"  {key}\n    fake: {items[0].get(key)}\n    real: {items[1].get(key)}" for key in differing]
    return Difference(tuple(steps), (*lines, "  at the end:", *told))


def shrunk(difference: Difference, sides: Sides) -> Difference:
    """Leave out steps, one at a time, as long as the sides still differ."""
    index = 0
    while index < len(difference.steps):
        shorter = compare(difference.steps[:index] + difference.steps[index + 1 :], sides)
        if shorter is None:
            index += 1
        else:
            difference, index = shorter, 0
    return difference


def _outcome(act: Callable[[Side], Any], side: Side) -> Any:
    """Return the result, or the refusal with all that callers see of it; an error that is no refusal is none either."""
    try:
        return act(side)
    except Conflict:
        return "Conflict"
    except SwitchedOff:
        return "SwitchedOff"
    except OverBudget as over:
        return f"OverBudget of {over.holder}"
    except Refused as refused:
        return "Refused", refused.item
    except ClientError as error:
        return f"no refusal that a port knows: {error}"
