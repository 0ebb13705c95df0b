"""End a run: for good, and with its completion record above everything that people or Batch say."""

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import isolated, waits
from spotkeeper.control.ports import Ledger, Ports
from spotkeeper.control.run import Run
from spotkeeper.control.standby import forgotten


def close(run: Run, state: RunState, *, ledger: Ledger, at: str, reason: str | None = None) -> Run:
    """End the run in a final state.

    Raises:
        Conflict: somebody moved the run meanwhile.
    """
    done = {"state": state, "closed_at": at, "reason": reason, "pause_requested_at": None, "wait_until": None}
    return ledger.advance(run, **done, **forgotten(), **waits.forgotten())


def close_if_over(run: Run, *, ports: Ports, at: str, reason: str | None = None) -> Run | None:
    """End a run without a running job if it is complete or cancelled; None: it is neither. Raises as `close` does."""
    run = isolated.complete(run, ports=ports)
    if run.is_complete:
        return close(run, RunState.SUCCEEDED, ledger=ports.ledger, at=at)
    if run.cancel_requested_at is not None:
        return close(run, RunState.CANCELLED, ledger=ports.ledger, at=at, reason=reason)
    return None
