import signal

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_YIELDED
from spotkeeper.contract.outcome import COMPLETED, STARTED, YIELDED
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
        (76, STARTED, NONE, EXIT_FENCED),
        (76, STARTED, TERM, EXIT_FENCED),
        (1, STARTED, NONE, 1),
        (1, STARTED, TERM, 1),
        (1, COMPLETED, NONE, 1),
        (-15, COMPLETED, TERM, EXIT_YIELDED),
        # one that does not
        (0, None, NONE, EXIT_COMPLETED),
        (0, None, TERM, EXIT_YIELDED),
        (3, None, NONE, 3),
        (3, None, TERM, 3),
        (75, None, NONE, EXIT_YIELDED),
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
