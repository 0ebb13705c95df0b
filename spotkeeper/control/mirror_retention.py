"""Let a run's mirror go of old checkpoints between two jobs, because the next one copies all that is there.

A container must not: what SageMaker does with a file that is deleted where it mirrors is not proved. Between two jobs
nobody mirrors, and this is how that is known:

- Only whoever has just recorded the next submission's intent comes here, before its job is asked for. Whoever else
  asks for it later, or pauses or resumes the run, writes the run first: at another version nothing more is deleted.
- The job before is described as ended. One that is not known, or was never made, leaves everything as it is.

All else is for the next start to try again: nothing here holds a run up, or fails it.
"""

from contextlib import suppress
from itertools import islice
from typing import Final

from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP
from spotkeeper.control.ports import Ports
from spotkeeper.control.run import HistoryEvent, Run

MOST_PAGES: Final = 5
"""At one start, of up to 1,000 objects: a function has seconds, and what is left goes at the next start."""
MIRROR_CLEARED: Final = "mirror-cleared"
"""Kind of the history event."""


def let_go(before: Run, begun: Run, *, ports: Ports, now: str) -> None:
    """Delete what is older than the newest whole checkpoints from the mirror of a run whose next job is to be made.

    Args:
        before: The run in its last submission.
        begun: The run as it was written with the intent of its next one, by this caller.
        ports: The world.
        now: ISO 8601, UTC.
    """
    if not begun.is_isolated or ports.mirrors is None or before.job_id is None:
        return
    num_deleted, why_stopped = 0, ""
    try:
        job = ports.batch.describe(before.job_id)
        if job is None or not job.has_ended:
            return
        for page in islice(ports.mirrors.outlived(begun.run_id, keep=DEFAULT_KEEP), MOST_PAGES):
            current = ports.ledger.get(begun.run_id)
            if current is None or current.version != begun.version:
                break  # its next job may be there already
            refused = ports.mirrors.delete(begun.run_id, page)
            num_deleted += len(page) - len(refused)
            if refused:
                key, why = next(iter(refused.items()))
                why_stopped = f"refused: {len(refused)}, as {key}: {why}"
                break  # what lies behind a manifest stays as long as that
    except Exception as error:  # noqa: BLE001  whatever it is, it costs space; the run must not wait for it
        why_stopped = f"{type(error).__name__}: {error}"
    if num_deleted or why_stopped:
        with suppress(Exception):  # as above
            ports.ledger.append_event(begun.run_id, _told(begun, num_deleted, why_stopped, now))


def _told(run: Run, num_deleted: int, why_stopped: str, now: str) -> HistoryEvent:
    message = f"before submission {run.submission}: objects of older checkpoints deleted from its mirror: {num_deleted}"
    return HistoryEvent(
        at=now,
        event_id=f"mirror-{run.submission}",
        kind=MIRROR_CLEARED,
        message=f"{message}; the others stay for now: {why_stopped}" if why_stopped else message,
    )
