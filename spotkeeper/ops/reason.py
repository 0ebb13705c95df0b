"""Why a run is where it is, for people who look at it now."""

from datetime import datetime

from spotkeeper.control.run import Run
from spotkeeper.ops.elapsed import elapsed


def reason(run: Run, *, now: datetime) -> str | None:
    """Return it in words, with commands that name the run; None if there is nothing to say."""
    if run.is_live and run.job_unknown_since is None and run.waits_since is not None:
        because = f": {run.waits_why}" if run.waits_why else ""
        return f"waits for a machine ({run.market}), {elapsed(run.waits_since, now)}{because}"
    # A reason is recorded without knowing who reads it.
    return run.why.replace("`spotkeeper resume RUN`", f"`spotkeeper resume {run.run_id}`") if run.why else None


def state(run: Run, *, now: datetime) -> str:
    """Return the state with its reason."""
    why = reason(run, now=now)
    return f"{run.state}: {why}" if why else str(run.state)
