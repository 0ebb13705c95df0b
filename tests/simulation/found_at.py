"""The seed at which each planted bug showed last: tried first, so that finding them all again takes seconds.

Any change of the world moves them; a bug that has moved is searched for from seed 0, which only takes longer.
`python -m tests.simulation --mutants` prints how many seeds each needs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

FOUND_AT: Final[Mapping[str, int]] = MappingProxyType(
    {
        "any-job-claims": 7,
        "older-attempt-claims": 41,
        "cancelled-run-claimed": 329,
        "ended-run-claimed": 14,
        "complete-run-claimed": 28,
        "epoch-stays": 0,
        "old-epoch-completes": 27,
        "ended-run-completed": 725,
        "zombie-commits": 12,
        "oldest-checkpoint": 2,
        "exit-0-after-signal": 4,
        "paused-run-claimed": 198,
        "exit-0-is-success": 198,
        "twin-speaks": 4,
        "old-twin-speaks": 44,
        "attempt-ends-job": 4,
        "requeued-while-running": 0,
        "unknown-is-ended": 2,
        "last-attempt-forgotten": 0,
        "late-warning-ignored": 41,
        "no-sweeper": 0,
        "sweeps-never-begin-again": 0,
        "ended-job-is-quiet": 10,
        "half-a-sweeper": 1,
        "nobody-wakes-the-waiting": 4,
        "requeue-unconditional": 284,
        "stalls-uncounted": 64,
        "capacity-parks": 20,
        "progress-unseen": 22,
        "limiter-ignored": 0,
        "limiter-too-wide": 10,
        "silent-park": 4,
        "no-intent": 0,
        "throttled-is-refused": 1,
        "no-look-up": 7,
        "cancel-unrecorded": 26,
        "cancel-over-completion": 77,
        "pause-forgets-the-job": 5,
        "resume-mid-run": 5,
        "nothing-reserved": 4,
        "cap-unasked": 5,
        "deadline-crosses-every-cap": 29,
        "switch-unread": 999,
        "switch-unread-at-all": 177,
        "sent-without-end": 364,
        "on-demand-retried": 4,
        "settled-at-once": 973,
        "settled-while-running": 4,
        "twin-unpaid": 323,
        "never-settled": 0,
        "standby-claims": 4,
        "standby-takes-over-early": 4,
        "standby-number-reused": 44,
        "backlog-is-drought": 4,
        "spot-never-again": 5,
        "last-write-wins": 4,
    }
)
