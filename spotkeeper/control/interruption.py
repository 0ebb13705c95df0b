"""Record that AWS announced to take an instance back.

Nothing is decided here: the attempt on the instance notices by itself, and Batch's word counts. The record only
tells an interruption from any other loss of a host.
"""

from datetime import datetime
from typing import Final

from spotkeeper.control.events import InstanceNotice
from spotkeeper.control.ports import Ledger
from spotkeeper.control.run import Interruption

KEPT_SECONDS: Final = 14 * 24 * 3600
"""Longer than any queue or event redrive (14 days in SQS) can delay the observation of the attempt's end."""


def record(notice: InstanceNotice, *, ledger: Ledger) -> None:
    """Record the notice; again, late or out of order changes nothing."""
    known = Interruption(
        instance_id=notice.instance_id,
        warned_at=notice.at if notice.is_warning else None,
        action=notice.action,
        rebalance_at=None if notice.is_warning else notice.at,
    )
    expires_at = int(datetime.fromisoformat(notice.at).timestamp()) + KEPT_SECONDS
    ledger.record_interruption(known, expires_at=expires_at)
