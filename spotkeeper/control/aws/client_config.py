"""How long a function waits for AWS: far below its own time limit, or one connection that hangs would end all its work.

A call that AWS does not answer fails after `LONGEST_CALL_SECONDS`; the message, or the run, that needed it is taken up
again later, and the others are not held up.
"""

from typing import Final

from botocore.config import Config

CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 5
TRIES: Final = 3
BACKOFF_SECONDS: Final = 2
"""Between two tries, at most: botocore waits up to 2**n seconds after the nth."""
LONGEST_CALL_SECONDS: Final = TRIES * (CONNECT_SECONDS + READ_SECONDS) + (TRIES - 1) * BACKOFF_SECONDS

HANDLER_CONFIG: Final = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": TRIES},
)
