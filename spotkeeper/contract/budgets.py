"""Keys of the money in the ledger: what may be spent by whom, and what is reserved for what.

    BUDGET#<holder>          BUDGET                   caps of a holder, and what is left of them
    RESERVATIONS#<run>       RESERVATION#<submission:04>   money set aside before the job was submitted
    SWITCH                   SWITCH                   the environment's kill switch of on-demand

No key begins with `RUN#`: a job may write its run's items, and must not touch its money.

Holders are `environment#<month>`, `team/<team>#<month>`, `sweep/<sweep>` and `run/<run>`; a month is `2026-11`, UTC,
the one in which the money was reserved. A reservation is found under `unsettled` of the listing index until settled.
"""

import re
from enum import StrEnum
from typing import Final

BUDGET_SORT_KEY: Final = "BUDGET"
RESERVATION_SORT_PREFIX: Final = "RESERVATION#"
SWITCH_PARTITION: Final = "SWITCH"
SWITCH_SORT_KEY: Final = "SWITCH"
LISTING_UNSETTLED: Final = "unsettled"


class HolderKind(StrEnum):
    """Whose budget it is."""

    ENVIRONMENT = "environment"
    TEAM = "team"
    SWEEP = "sweep"
    RUN = "run"

    @property
    def is_monthly(self) -> bool:
        """Whether there is a new budget every month. The others last, and only a person makes them larger."""
        return self in (HolderKind.ENVIRONMENT, HolderKind.TEAM)


def kind_of(holder: str) -> HolderKind:
    """Return whose budget a holder's is.

    Raises:
        ValueError: if it is nobody's.
    """
    return HolderKind(re.split("[/#]", holder, maxsplit=1)[0])


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


def start_of(month: str) -> str:
    """Return when a month begins, ISO 8601, UTC."""
    return f"{month}-01T00:00:00+00:00"


def environment_holder(month: str) -> str:
    """Holder of everything that is spent in a month."""
    return f"{HolderKind.ENVIRONMENT}#{month}"


def team_holder(team: str, month: str) -> str:
    """Holder of what a team spends in a month."""
    return f"{HolderKind.TEAM}/{team}#{month}"


def sweep_holder(sweep: str) -> str:
    """Holder of what the runs of a sweep spend together."""
    return f"{HolderKind.SWEEP}/{sweep}"


def run_holder(run_id: str) -> str:
    """Holder of what a run spends."""
    return f"{HolderKind.RUN}/{run_id}"
