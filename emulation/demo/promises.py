"""What Spotkeeper promises of a run, checked one by one on what the demo saw."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from emulation.demo.final_state import FinalState
from emulation.demo.timeline import Row
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run

_ACCURACY = re.compile(r"test accuracy (?P<percent>[0-9.]+)%")
LEAST_ACCURACY_PERCENT = 97.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, whether it was kept, and what shows it."""

    text: str
    is_kept: bool
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that the promises are checked on."""

    run: Run
    rows: Sequence[Row]
    num_attempts: int
    """As Batch counts them."""
    planned: tuple[int, int] | None
    """Interruptions with and without notice that were planned; None where a trace decided."""
    output: Sequence[str]
    """Lines of the last attempt."""
    final: FinalState
    uninterrupted: FinalState
    faults: Sequence[str]
    """What went wrong in handlers, queues or the emulation itself."""


def check(seen: Evidence) -> tuple[Promise, ...]:
    """Return every promise, kept or broken."""
    return (
        succeeded(seen.run),
        *([_was_interrupted(seen, seen.planned)] if seen.planned else []),
        _all_attempts_known(seen),
        _never_two_at_once(seen.rows),
        _notices_lose_nothing(seen.rows),
        is_bit_identical(seen.final, seen.uninterrupted),
        is_accurate(seen.output),
        Promise(
            "every event was handled: no handler failed, no message is dead",
            not seen.faults,
            "; ".join(seen.faults) or "dead-letter queues are empty",
        ),
    )


def succeeded(run: Run) -> Promise:
    """Check that the run has ended well, and proved it."""
    return Promise(
        "the run succeeded, by the completion record of its last fencing epoch",
        run.state is RunState.SUCCEEDED and run.is_complete,
        f"state {run.state}, epoch {run.epoch}, record of epoch {run.completion.epoch if run.completion else 'none'}",
    )


def _was_interrupted(seen: Evidence, planned: tuple[int, int]) -> Promise:
    causes = [row.attempt.cause for row in seen.rows]
    found = (causes.count(Cause.INTERRUPTED), causes.count(Cause.HOST_LOST))
    return Promise(
        f"its capacity was taken away {planned[0]} times with notice and {planned[1]} times without",
        found == planned,
        f"the ledger says {found[0]} and {found[1]}",
    )


def _all_attempts_known(seen: Evidence) -> Promise:
    return Promise(
        "the ledger knows every attempt, where it ran and why it ended",
        len(seen.rows) == seen.num_attempts and all(row.attempt.cause is not None for row in seen.rows),
        f"{len(seen.rows)} of {seen.num_attempts}",
    )


def _never_two_at_once(rows: Sequence[Row]) -> Promise:
    held = [row for row in rows if row.claim_seconds is not None]
    overlaps = [
        f"{later.name} claimed the run before {earlier.name} ended"
        for earlier, later in pairwise(held)
        if (later.claim_seconds or 0) < earlier.end_seconds
    ]
    epochs = [row.attempt.epoch or 0 for row in held]
    return Promise(
        "never two attempts hold the run at once, and each has a higher fencing epoch",
        not overlaps and epochs == sorted(set(epochs)),
        "; ".join(overlaps) or f"fencing epochs {', '.join(map(str, epochs))}",
    )


def _notices_lose_nothing(rows: Sequence[Row]) -> Promise:
    noticed = [row for row in rows if row.attempt.cause == Cause.INTERRUPTED]
    lost = sum(row.lost_steps for row in noticed)
    return Promise("a notice loses no work", lost == 0, f"{lost} steps lost after {len(noticed)} notices")


def is_bit_identical(final: FinalState, uninterrupted: FinalState) -> Promise:
    """Check that interruptions changed nothing."""
    is_same = final == uninterrupted
    return Promise(
        "the final state is bit-identical to an uninterrupted run's",
        is_same,
        f"{final.num_bytes:,} bytes of weights, optimizer and random numbers after step {final.step}, "
        f"sha256 {final.sha256[:12]}" + ("" if is_same else f", not {uninterrupted.sha256[:12]}"),
    )


def is_accurate(output: Sequence[str]) -> Promise:
    """Check that what was trained has learned something."""
    found = [float(match["percent"]) for line in output if (match := _ACCURACY.search(line))]
    return Promise(
        f"the model reads at least {LEAST_ACCURACY_PERCENT:.0f} % of the digits it has never seen",
        bool(found) and found[-1] >= LEAST_ACCURACY_PERCENT,
        f"{found[-1]} %" if found else "it was never tested",
    )
