"""Renew the lease of a submission on spot before it runs out, or stop its job while there is money to stop it.

What has been used is computed from the attempts, a short one counted with the whole of its start and end; the sweeper
looks every five minutes. A lease is therefore as good as the sweeper: while that is silent, spot is spent unleased
(on-demand never is, because it is reserved for whole).
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from spotkeeper.control.budget import OverBudget, Reservation
from spotkeeper.control.classify import OVER_BUDGET_REASON
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.run import Run
from spotkeeper.control.settle import spent_microusd
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import AROUND_SECONDS, LEASE_SECONDS, lease_microusd

MARGIN_SECONDS: Final = 900
"""Three periods of the sweeper: one may fail, and the stop takes time."""


def renew(run: Run, reservation: Reservation, jobs: Iterable[Job], *, ports: Ports, now: str) -> bool:
    """Extend the lease of an open submission if it needs it. Return whether its job was stopped for want of money.

    Args:
        run: As read.
        reservation: The submission's.
        jobs: Of the submission, as far as they were read; a twin that is missing is booked when all is settled.
        ports: The world.
        now: ISO 8601, UTC.

    Raises:
        Conflict: somebody extended or settled it meanwhile.
    """
    if reservation.market is not Market.SPOT:
        return False
    price, jobs = Decimal(reservation.usd_per_hour), tuple(jobs)
    used = spent_microusd(run, reservation, jobs, ports, until=now)
    needed = used + lease_microusd(price, MARGIN_SECONDS + AROUND_SECONDS)
    if needed <= reservation.microusd:
        return False
    try:
        ports.budgets.extend(reservation, max(lease_microusd(price, LEASE_SECONDS), needed - reservation.microusd))
    except OverBudget:
        running = [job for job in jobs if not job.has_ended]
        for job in running:
            ports.batch.terminate(job.job_id, OVER_BUDGET_REASON)
        return bool(running)
    return False
