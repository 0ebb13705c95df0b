"""Turn the kill switch of on-demand, and stop what runs there at once instead of at the next sweep."""

from dataclasses import dataclass

from spotkeeper.control import kill_switch
from spotkeeper.control.budget import Switch
from spotkeeper.control.settle import is_open
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.waiting import PASSING


@dataclass(frozen=True, kw_only=True, slots=True)
class Turned:
    """What turning the switch off did."""

    switch: Switch
    stopped: tuple[str, ...]
    """Runs whose job on on-demand was told to save and stop."""
    left: tuple[str, ...]
    """Runs that could not be reached: the sweeper stops them."""


def off(reason: str, connection: Connection) -> Turned:
    """Switch on-demand off, then stop its jobs.

    Raises:
        ValueError: if the reason says nothing.
    """
    if not reason.strip():
        raise ValueError("--reason must say why, for whoever finds on-demand switched off; got nothing")
    ports = connection.ports
    switch = kill_switch.turn(is_off=True, reason=reason, ports=ports)
    stopped, left = [], []
    for entry in ports.budgets.unsettled():
        run_id, submission = entry.run_id, entry.submission or 0
        try:
            run = ports.ledger.get(run_id)
            of_run = ports.budgets.reservations(run_id)
            reservation = next((found for found in of_run if found.submission == submission), None)
            is_running = run is not None and reservation is not None and is_open(run, submission)
            if is_running and run and reservation and kill_switch.enforce(run, reservation, ports=ports):
                stopped.append(run_id)
        except PASSING:
            left.append(run_id)
    return Turned(switch=switch, stopped=tuple(stopped), left=tuple(left))


def on(connection: Connection) -> Switch:
    """Switch on-demand on again; runs that wait fall back when their wait is over."""
    return kill_switch.turn(is_off=False, reason=None, ports=connection.ports)
