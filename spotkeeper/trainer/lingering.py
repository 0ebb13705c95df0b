"""Waiting for a host to go: if an attempt ended before, Batch could start the next on the dying host."""

import time
from datetime import UTC, datetime

from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.notice import LINGER_GRACE_SECONDS, Interruption


def linger(interruption: Interruption, log: EventLog) -> None:
    """Wait until the host must have gone; one that is still there then is not taken."""
    log.write(LogEvent.LINGERING)
    time.sleep(max(0.0, (interruption.deadline - datetime.now(UTC)).total_seconds() + LINGER_GRACE_SECONDS))
