import signal

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_YIELDED
from spotkeeper.contract.outcome import COMPLETED, FENCED, REFUSED, STARTED, YIELDED
from spotkeeper.trainer.ending import exit_code

NONE: frozenset[int] = frozenset()
TERM = frozenset({signal.SIGTERM})


@pytest.mark.parametrize(
    ("returncode", "outcome", "forwarded", "expected"),
    [
        # a program that uses the library
        (0, COMPLETED, NONE, EXIT_COMPLETED),
        (0, COMPLETED, TERM, EXIT_COMPLETED),
        (0, STARTED, NONE, EXIT_INCOMPLETE),
        (0, STARTED, TERM, EXIT_YIELDED),
        (75, YIELDED, NONE, EXIT_YIELDED),
        (0, YIELDED, TERM, EXIT_YIELDED),
        (1, YIELDED, TERM, EXIT_YIELDED),
        (-9, YIELDED, TERM, EXIT_YIELDED),
        (76, FENCED, NONE, EXIT_FENCED),
        (76, FENCED, TERM, EXIT_FENCED),
        (0, FENCED, NONE, EXIT_FENCED),
        (1, REFUSED, NONE, EXIT_REFUSED),
        (0, REFUSED, NONE, EXIT_INCOMPLETE),
        # our codes, said by the program itself
        (75, STARTED, NONE, 1),
        (76, STARTED, TERM, 1),
        (77, COMPLETED, NONE, 1),
        (78, None, NONE, 1),
        (74, None, NONE, 74),
        (79, None, NONE, 79),
        (1, STARTED, NONE, 1),
        (1, STARTED, TERM, 1),
        (1, COMPLETED, NONE, 1),
        (-15, COMPLETED, TERM, EXIT_YIELDED),
        # one that does not
        (0, None, NONE, EXIT_COMPLETED),
        (0, None, TERM, EXIT_YIELDED),
        (3, None, NONE, 3),
        (3, None, TERM, 3),
        (75, None, NONE, 1),
        # ends by signals
        (-15, None, TERM, EXIT_YIELDED),
        (143, None, TERM, EXIT_YIELDED),
        (-2, STARTED, frozenset({signal.SIGINT}), EXIT_YIELDED),
        (-15, None, NONE, 143),
        (-9, None, TERM, 137),
        (-11, STARTED, NONE, 139),
        (137, None, NONE, 137),
    ],
)
def test_an_end_means_one_exit_code(
    returncode: int, outcome: str | None, forwarded: frozenset[int], expected: int
) -> None:
    assert exit_code(returncode, outcome, forwarded) == expected
