"""Entries of listings, the ledger's and SageMaker's, and how far the sweeper has come in one."""

from dataclasses import dataclass

from spotkeeper.control.measures import Measures


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An entry of a listing: an open run, a reservation that is not settled, or a training job in progress."""

    created_at: str
    """By which a listing is ordered, oldest first; ISO 8601, UTC."""
    run_id: str
    """Of a training job, the id of that: its name may be of no run."""
    submission: int | None = None
    """Of a reservation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a round over a listing has come."""

    began_at: str
    """When the round could begin; ISO 8601, UTC."""
    last: Listed | None = None
    """The entry behind which it goes on; None: it goes on at the beginning. It need not be listed any more."""
    whole: Measures | None = None
    """What the last whole round has measured, if it measures anything."""
    part: Measures | None = None
    """What this one has, up to here."""
