"""The decision what an attempt's end means: from the program's own end to the exit code that Batch sees.

the program says "yielded"                                    -> EXIT_YIELDED
says "fenced"                                                 -> EXIT_FENCED
says "refused", and does not exit 0                           -> EXIT_REFUSED
exits 0, says "completed"                                     -> EXIT_COMPLETED, once that is recorded
exits 0, says nothing, was sent no signal                     -> EXIT_COMPLETED, once that is recorded
exits 0, otherwise, or dies as asked by a signal it was sent  -> EXIT_YIELDED if it was sent one, else EXIT_INCOMPLETE
exits with one of our codes by itself                         -> 1: Batch and the ledger must not take it for ours
anything else is the program's own failure                    -> its code; 128 + n if signal n killed it
"""

from typing import Final

from spotkeeper.contract.exit_codes import (
    EXIT_COMPLETED,
    EXIT_FENCED,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_YIELDED,
)
from spotkeeper.contract.outcome import COMPLETED, FENCED, REFUSED, YIELDED

OUR_CODES: Final = frozenset({EXIT_YIELDED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED})
EXIT_OF_A_PROGRAM_THAT_USED_OURS: Final = 1


def exit_code(returncode: int, outcome: str | None, forwarded: frozenset[int]) -> int:
    """Return the exit code of an attempt.

    `returncode` is negative for the signal that killed the program; `outcome` is what it wrote through the
    library, None if it does not use it; `forwarded` are the numbers of the signals that it was sent.
    """
    if outcome == YIELDED:
        return EXIT_YIELDED
    if outcome == FENCED:
        return EXIT_FENCED
    if outcome == REFUSED and returncode != 0:
        return EXIT_REFUSED
    if returncode == 0:
        if outcome == COMPLETED or (outcome is None and not forwarded):
            return EXIT_COMPLETED
        return EXIT_YIELDED if forwarded else EXIT_INCOMPLETE
    if any(returncode in (-number, 128 + number) for number in forwarded):
        return EXIT_YIELDED
    if returncode in OUR_CODES:
        return EXIT_OF_A_PROGRAM_THAT_USED_OURS
    return 128 - returncode if returncode < 0 else returncode
