"""At most so many SubmitJob calls a second, over all handlers together, and no team alone takes them all.

AWS Batch takes 50 a second from an account, and the limit cannot be raised. Each second has one counter in the ledger;
whoever gets no slot leaves its run SUBMITTING, and a later reconciliation asks again.
"""

from datetime import datetime
from typing import Final

from spotkeeper.control.ports import Ledger

SUBMISSIONS_PER_SECOND: Final = 32
"""Leaves room below 40 for calls that reach AWS a second late, and the account's other 10 for people."""
TEAM_SUBMISSIONS_PER_SECOND: Final = SUBMISSIONS_PER_SECOND // 2
"""A flood of one team leaves half of every second to all others, without anybody counting teams."""


def may_submit(team: str, *, ledger: Ledger, now: str) -> bool:
    """Take one submission of this second for a team; False if there is none left."""
    return ledger.take_submission_slot(
        second=int(datetime.fromisoformat(now).timestamp()),
        team=team,
        limit=SUBMISSIONS_PER_SECOND,
        team_limit=TEAM_SUBMISSIONS_PER_SECOND,
    )
