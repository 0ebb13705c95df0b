"""Why a run is where it is, for people who look at it now."""

from datetime import datetime

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.run import Run
from spotkeeper.ops.elapsed import elapsed


def reason(run: Run, *, now: datetime) -> str | None:
    """Return it in words, with commands that name the run; None if there is nothing to say."""
    if run.is_live and run.job_unknown_since is None and run.waits_since is not None:
        because = f": {run.waits_why}" if run.waits_why else ""
        return f"waits for a machine ({run.market}), {elapsed(run.waits_since, now)}{because}"
    # A reason is recorded without knowing who reads it.
    return run.why.replace("`spotkeeper resume RUN`", f"`spotkeeper resume {run.run_id}`") if run.why else None


def state_word(run: Run) -> str:
    """Return the state for people: a run whose attempt lost its machine, and has no other yet, does not run.

    What somebody has asked for and has not happened yet stands behind it.
    """
    is_interrupted = run.state is RunState.RUNNING and run.waits_since is not None and run.job_unknown_since is None
    word = "interrupted" if is_interrupted else str(run.state)
    if run.cancel_requested_at is not None and not run.is_closed:
        return f"{word} (cancelling)"
    return f"{word} (pausing)" if run.pause_requested_at is not None and run.is_live else word


def state(run: Run, *, now: datetime) -> str:
    """Return the state with its reason."""
    why = reason(run, now=now)
    return f"{state_word(run)}: {why}" if why else state_word(run)
