"""The decision what an attempt's end means: from the program's own end to the exit code that Batch sees.

the program says "yielded"                                    -> EXIT_YIELDED
exits 0, says "completed"                                     -> EXIT_COMPLETED, once that is recorded
exits 0, says nothing, was sent no signal                     -> EXIT_COMPLETED, once that is recorded
exits 0, otherwise, or dies as asked by a signal it was sent  -> EXIT_YIELDED if it was sent one, else EXIT_INCOMPLETE
anything else is the program's own failure                    -> its code; 128 + n if signal n killed it
"""

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_INCOMPLETE, EXIT_YIELDED
from spotkeeper.contract.outcome import COMPLETED, YIELDED


def exit_code(returncode: int, outcome: str | None, forwarded: frozenset[int]) -> int:
    """Return the exit code of an attempt.

    `returncode` is negative for the signal that killed the program; `outcome` is what it wrote through the
    library, None if it does not use it; `forwarded` are the numbers of the signals that it was sent.
    """
    if outcome == YIELDED:
        return EXIT_YIELDED
    if returncode == 0:
        if outcome == COMPLETED or (outcome is None and not forwarded):
            return EXIT_COMPLETED
        return EXIT_YIELDED if forwarded else EXIT_INCOMPLETE
    if any(returncode in (-number, 128 + number) for number in forwarded):
        return EXIT_YIELDED
    return 128 - returncode if returncode < 0 else returncode
