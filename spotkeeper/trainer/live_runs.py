"""The runs that this process has open: a second `Run` of one would silently continue the first one's checkpoints."""

import os

_live: set[tuple[str, str]] = set()


def refuse_if_live(checkpoint_uri: str, run_id: str) -> None:
    """Raise `ValueError` if this process has this run open."""
    if _key(checkpoint_uri, run_id) in _live:
        raise ValueError(
            f"this process has a Run of {run_id!r} already, and a second one would continue its checkpoints. One run "
            "a process: for several trials submit one run each, or start the program once each with its own "
            "SPOTKEEPER_RUN_ID. To go on with the same run here, call close() on the first one"
        )


def enter(checkpoint_uri: str, run_id: str) -> None:
    """Remember that the run is open."""
    _live.add(_key(checkpoint_uri, run_id))


def leave(checkpoint_uri: str, run_id: str) -> None:
    """Forget the run, if it is open."""
    _live.discard(_key(checkpoint_uri, run_id))


def _key(checkpoint_uri: str, run_id: str) -> tuple[str, str]:
    return (checkpoint_uri if "://" in checkpoint_uri else os.path.abspath(checkpoint_uri), run_id)  # noqa: PTH100
