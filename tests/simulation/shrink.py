"""From a failing seed to the few decisions that matter (delta debugging), and to a schedule that can be read.

Zeller & Hildebrandt, "Simplifying and isolating failure-inducing input", 2002: ddmin, here over recorded decisions.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.simulation.programs import Programs
from tests.simulation.simulation import Result, replay

REPORT_LINES: Final = 58
MAX_REPLAYS: Final = 1500
"""Enough for hundreds of decisions; what is left then is printed as it is."""


def rule_of(violation: str | None) -> str | None:
    """Return the name of the invariant that a violation is of."""
    return None if violation is None else violation.partition(":")[0]


def shrink(found: Result, programs: Programs) -> Result:
    """Return a replay, with trace, of the fewest decisions found that violate the same invariant."""
    rule = rule_of(found.violation)
    num_replays = 0

    def fails(decisions: Mapping[str, Any]) -> bool:
        nonlocal num_replays
        num_replays += 1
        return num_replays <= MAX_REPLAYS and rule_of(replay(decisions, programs=programs).violation) == rule

    decisions = dict(found.decisions)
    if not fails(decisions):
        return found  # only a simulation that is not deterministic comes here
    return replay(_ddmin(decisions, fails), programs=programs, trace=True)


def _ddmin(decisions: dict[str, Any], fails: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    if fails({}):
        return {}
    num_parts = 2
    while len(decisions) >= 2:
        names = list(decisions)
        size = -(-len(names) // num_parts)
        for start in range(0, len(names), size):
            left_out = set(names[start : start + size])
            rest = {name: value for name, value in decisions.items() if name not in left_out}
            if fails(rest):
                decisions = rest
                num_parts = max(num_parts - 1, 2)
                break
        else:
            if num_parts >= len(names):
                break
            num_parts = min(num_parts * 2, len(names))
    return decisions


def report(shrunk: Result) -> list[str]:
    """Return, in under 60 lines, what was violated, by which decisions, and what happened."""
    decided = [f"  {name} = {value}" for name, value in shrunk.decisions.items()]
    head = [f"violated: {shrunk.violation}", f"out of the ordinary ({len(decided)}):", *decided, "what happened:"]
    room = max(REPORT_LINES - len(head), 10)
    happened = list(shrunk.lines)
    if len(happened) > room:
        num_first = room // 4
        num_last = room - num_first - 1
        left_out = f"  … {len(happened) - num_first - num_last} lines …"
        happened = [*happened[:num_first], left_out, *happened[-num_last:]]
    return [*head[: REPORT_LINES - 10], *happened]
