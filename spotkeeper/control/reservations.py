"""Tend the reservations that are not settled: the sweeper's second round, after the runs themselves."""

from enum import StrEnum

from spotkeeper.control import kill_switch
from spotkeeper.control.ports import Ports
from spotkeeper.control.renew import renew
from spotkeeper.control.settle import is_open, settle


class Tended(StrEnum):
    """What was done about a reservation."""

    LEFT = "left"
    """It is in use, or it is too early to settle it."""
    STOPPED = "stopped"
    """Its job was stopped: on-demand is switched off, or a lease could not be renewed."""
    SETTLED = "settled"


def tend(run_id: str, submission: int, *, ports: Ports, now: str) -> Tended:
    """Settle, renew or stop one submission. `now` is ISO 8601, UTC.

    Raises:
        Conflict: somebody else does so at this moment.
    """
    run = ports.ledger.get(run_id)
    reservation = next((item for item in ports.budgets.reservations(run_id) if item.submission == submission), None)
    if run is None or reservation is None or reservation.settled_at is not None:
        return Tended.LEFT
    if not is_open(run, submission):
        return Tended.LEFT if settle(run, reservation, ports=ports, now=now) is None else Tended.SETTLED
    is_stopped = kill_switch.enforce(run, reservation, ports=ports) or renew(run, reservation, ports=ports, now=now)
    return Tended.STOPPED if is_stopped else Tended.LEFT
