"""The end of a month: a lease on spot goes over to the holders of the new one, so that each month pays its own hours.

Run and sweep pay on; team and environment have a new budget. It is one write, and for who holds the lease in both
months one change, so that nobody needs the money twice.

What is reserved on on-demand stays where it was reserved. It is bounded, a segment of a few hours that ends by itself;
it was allowed as a whole, before its job was submitted, by the caps of the month in which it begins; and to ask the new
month too could only stop what has been paid for already. So that month may be charged for some hours of the next one,
once for each run that is on on-demand at midnight, and no cap of either is crossed.
"""

from collections.abc import Iterable

from spotkeeper.contract.budgets import month_of, start_of
from spotkeeper.control import reserve
from spotkeeper.control.budget import Reservation
from spotkeeper.control.cost import cost_microusd
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market


def is_over(reservation: Reservation, *, now: str) -> bool:
    """Tell whether a lease is held by a month that has ended."""
    return reservation.market is Market.SPOT and month_of(now) > reservation.month


def paid_before(run: Run, reservation: Reservation, jobs: Iterable[Job], ports: Ports, *, now: str) -> int:
    """Return what a submission cost before the month of `now`, booked or not."""
    return cost_microusd(run, reservation, jobs, ports, until=start_of(month_of(now)))


def roll_over(
    run: Run, reservation: Reservation, *, paid_microusd: int, microusd: int, ports: Ports, now: str
) -> Reservation:
    """Book with the old holders what was paid before this month, and set so much aside with those of now.

    Raises:
        Conflict: somebody extended, settled or rolled it over meanwhile.
        OverBudget: naming the first holder that has too little left for it.
    """
    holders = tuple(budget.holder for budget in reserve.budgets_of(run, ports=ports, now=now))
    spent = max(0, paid_microusd - reservation.booked_microusd)
    return ports.budgets.roll_over(reservation, spent, holders=holders, microusd=microusd, at=now)
