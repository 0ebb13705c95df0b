"""Renew the lease of a submission on spot before it runs out, or stop its job while there is money to stop it.

What has been used is computed from the attempts, a short one counted with the whole of its start and end; the sweeper
looks every five minutes. A lease is therefore as good as the sweeper: while that is silent, spot is spent unleased
(on-demand never is, because it is reserved for whole).
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from spotkeeper.contract.budgets import kind_of
from spotkeeper.control import month
from spotkeeper.control.budget import OverBudget, Reservation
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON
from spotkeeper.control.cost import cost_microusd
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.run import Run
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
        Conflict: somebody extended, rolled over or settled it meanwhile.
    """
    if reservation.market is not Market.SPOT:
        return False
    price, jobs = Decimal(reservation.usd_per_hour), tuple(jobs)
    cost = cost_microusd(run, reservation, jobs, ports, until=now)
    ahead, hour = lease_microusd(price, MARGIN_SECONDS + AROUND_SECONDS), lease_microusd(price, LEASE_SECONDS)
    try:
        if month.is_over(reservation, now=now):
            paid = month.paid_before(run, reservation, jobs, ports, now=now)
            needed = max(hour, cost - paid + ahead)
            month.roll_over(run, reservation, paid_microusd=paid, microusd=needed, ports=ports, now=now)
            return False
        short = cost - reservation.booked_microusd + ahead - reservation.microusd
        if short > 0:
            ports.budgets.extend(reservation, max(hour, short))
    except OverBudget as over:
        reason = OVER_MONTH_REASON if kind_of(over.holder).is_monthly else OVER_BUDGET_REASON
        running = [job for job in jobs if not job.has_ended]
        for job in running:
            ports.batch.terminate(job.job_id, reason)
        return bool(running)
    return False
