"""What the trainer library tells `spotkeeper-exec`, through a small JSON file, about how a program ended.

    {"outcome": "started" | "yielded" | "completed" | "fenced" | "refused", "step": 1200}

A file that does not exist means that the program does not use the library: its exit code alone then speaks.
`started` left behind by a program that exits 0 means that it stopped early: not a success.
"""

from typing import Final

STARTED: Final = "started"
YIELDED: Final = "yielded"
COMPLETED: Final = "completed"
FENCED: Final = "fenced"
"""A newer attempt owns the run."""
REFUSED: Final = "refused"
"""The checkpoint store will never let this attempt in: no permission, no bucket, no credentials."""
