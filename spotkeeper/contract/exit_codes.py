"""Exit codes of `spotkeeper-exec`, by which Batch's retry rules tell a hand-over from a failure.

75 and 78 are sysexits.h's EX_TEMPFAIL and EX_CONFIG; the others are its unused neighbours. All stay below
126, where shells and 128+signal codes begin. Any other code is the user's program speaking; if it uses one of
these without the library, `spotkeeper-exec` says 1 instead.
"""

from typing import Final

EXIT_COMPLETED: Final = 0
"""The program finished and its completion record is in the ledger."""

EXIT_YIELDED: Final = 75
"""The attempt was told to stop and stopped; the run goes on in another attempt. Batch retries it."""

EXIT_FENCED: Final = 76
"""Another attempt owns the run. This one must not train, and must not be retried."""

EXIT_INCOMPLETE: Final = 77
"""The program exited 0, but nothing proves that it finished. Never counted as success."""

EXIT_REFUSED: Final = 78
"""The attempt can never work as it is set up: a missing variable, a damaged source archive, no permission, a program
that is not there. A retry cannot help."""
