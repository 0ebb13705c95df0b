"""How a job's command begins: the program that owns the attempt, whatever the image's own entry point is."""

from typing import Final

ENTRY_POINT: Final = ("spotkeeper-exec", "--")
"""The user's command follows; Batch has no way to override an image's ENTRYPOINT, so images leave it empty."""
