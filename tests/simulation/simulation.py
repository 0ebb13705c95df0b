"""One seed, or one recorded schedule, from the beginning to the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.choices import Choices
from tests.simulation.faults import Swarm
from tests.simulation.invariants import Violation
from tests.simulation.programs import Programs
from tests.simulation.world import World

SHIPPED = Programs()


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a simulation."""

    violation: str | None
    decisions: Mapping[str, Any]
    digest: str
    num_steps: int
    simulated_seconds: float
    lines: tuple[str, ...] = ()


def simulate(seed: int, *, programs: Programs = SHIPPED, trace: bool = False) -> Result:
    """Simulate one seed."""
    return _simulate(Choices(seed=seed), Swarm.of(seed), programs, trace=trace)


def replay(recorded: Mapping[str, Any], *, programs: Programs = SHIPPED, trace: bool = False) -> Result:
    """Simulate a schedule: what is recorded happens, and nothing else out of the ordinary."""
    return _simulate(Choices(recorded=recorded), Swarm(), programs, trace=trace)


def _simulate(choices: Choices, swarm: Swarm, programs: Programs, *, trace: bool) -> Result:
    lines: list[str] | None = [] if trace else None
    world = World(choices, swarm, programs, lines)
    violation = None
    try:
        world.live()
    except Violation as found:
        violation = str(found)
    except Exception as error:  # noqa: BLE001 - whatever a program lets through is a finding
        violation = f"no program fails for want of a case: {type(error).__name__}: {error}"
    world.scheduler.close()
    return Result(
        violation=violation,
        decisions=choices.decisions,
        digest=world.digest(),
        num_steps=world.scheduler.num_steps,
        simulated_seconds=world.scheduler.now_seconds,
        lines=tuple(lines or ()),
    )
