"""The kill switch of on-demand: from the moment it is turned no money is reserved, and what runs there yields."""

from typing import Final

from spotkeeper.control.budget import Reservation, Switch
from spotkeeper.control.classify import SWITCHED_OFF_REASON
from spotkeeper.control.ports import Conflict, Ports, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.settle import jobs_of
from spotkeeper.policy.placement import Market

TRIES: Final = 20


def turn(*, is_off: bool, reason: str | None, ports: Ports) -> Switch:
    """Turn the switch and return it. A reservation that read the switch before can no longer be made.

    Jobs on on-demand are stopped by `enforce`, which the sweeper calls, and save as on any stop.
    """
    tries_left = TRIES
    while True:
        switch = ports.budgets.switch()
        if switch.is_off == is_off:
            return switch
        try:
            return ports.budgets.turn(switch, is_off=is_off, reason=reason)
        except Conflict:
            continue
        except Throttled:
            # Every reservation checks the switch in its transaction, which keeps others off it for that moment.
            tries_left -= 1
            if not tries_left:
                raise


def enforce(run: Run, reservation: Reservation, *, ports: Ports) -> bool:
    """Stop the on-demand jobs of an open submission if the switch is off; return whether there were any."""
    if reservation.market is not Market.ON_DEMAND or not ports.budgets.switch().is_off:
        return False
    running = [job for job in jobs_of(run, reservation, ports) if not job.has_ended]
    for job in running:
        ports.batch.terminate(job.job_id, SWITCHED_OFF_REASON)
    return bool(running)
