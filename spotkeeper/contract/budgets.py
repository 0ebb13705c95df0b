"""Keys of the money in the ledger: what may be spent by whom, and what is reserved for what.

    BUDGET#<holder>          BUDGET                   caps of a holder, and what is left of them
    RESERVATIONS#<run>       RESERVATION#<submission:04>   money set aside before the job was submitted
    SWITCH                   SWITCH                   the environment's kill switch of on-demand

No key begins with `RUN#`: a job may write its run's items, and must not touch its money.

Holders are `environment#<month>`, `team/<team>#<month>`, `sweep/<sweep>` and `run/<run>`; a month is `2026-11`, UTC,
the one in which the money was reserved. A reservation is found under `unsettled` of the listing index until settled.
"""

from typing import Final

BUDGET_SORT_KEY: Final = "BUDGET"
RESERVATION_SORT_PREFIX: Final = "RESERVATION#"
SWITCH_PARTITION: Final = "SWITCH"
SWITCH_SORT_KEY: Final = "SWITCH"
LISTING_UNSETTLED: Final = "unsettled"


def budget_partition(holder: str) -> str:
    """Partition of a holder's budget."""
    return f"BUDGET#{holder}"


def reservations_partition(run_id: str) -> str:
    """Partition of a run's reservations."""
    return f"RESERVATIONS#{run_id}"


def reservation_sort_key(submission: int) -> str:
    """Sort key of the reservation for a submission."""
    return f"{RESERVATION_SORT_PREFIX}{submission:04d}"


def month_of(moment: str) -> str:
    """Return the UTC month of an ISO 8601 time in UTC, such as `2026-11`."""
    return moment[:7]


def environment_holder(month: str) -> str:
    """Holder of everything that is spent in a month."""
    return f"environment#{month}"


def team_holder(team: str, month: str) -> str:
    """Holder of what a team spends in a month."""
    return f"team/{team}#{month}"


def sweep_holder(sweep: str) -> str:
    """Holder of what the runs of a sweep spend together."""
    return f"sweep/{sweep}"


def run_holder(run_id: str) -> str:
    """Holder of what a run spends."""
    return f"run/{run_id}"
