"""Which failures of S3 are tried again, for how long, and what is said when that was no use."""

import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)

from spotkeeper.trainer.aws_refusal import remedy
from spotkeeper.trainer.store import StoreRefusedError

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 20.0
DAMAGE_SECONDS: Final = 5.0
"""For bytes that arrive changed: damage on the way passes, damage at its source does not."""
CREDENTIALS_SECONDS: Final = 5.0
"""A role's credentials may come late, but not by minutes."""

_DAMAGE: Final = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody"})
_PASSING: Final = frozenset({"ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout", "TokenRefreshRequired"})
"""Of those that S3 answers with 400 and 403: what credentials and clocks are put right by goes on meanwhile."""
_PASSING_STATUSES: Final = frozenset({408, 409, 429})
"""409: another conditional write of this key is under way, and S3 asks to send this one again."""


class Patience:
    """The time that one operation of the store may take, shared by all requests that it is made of.

    Pauses grow from 0.2 s to 20 s, each drawn anew between none and that ("full jitter",
    aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), so that many jobs which were throttled
    together do not come back together.
    """

    def __init__(self, where: str, seconds: float) -> None:
        """Take what messages begin with, and for how many seconds from now on a request may be begun."""
        self._where = where
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Let requests of other threads that fail from now on not be tried again."""
        self._given_up.set()

    def persist(self, action: str, call: Callable[[], Result]) -> Result:
        """Return what `call` returns, calling it again after failures that may pass.

        Raises:
            FileNotFoundError: if there is no such object.
            StoreRefusedError: if S3 would answer the same every time.
            OSError: if the time is over, or it was given up. Every message names the operation, key included.
        """
        began_at = time.monotonic()
        longest_pause = FIRST_PAUSE_SECONDS
        tries = 1
        while True:
            try:
                return call()
            except (ClientError, BotoCoreError) as error:
                pause = random.uniform(0, longest_pause)  # noqa: S311  (nothing secret)
                resumes_at = time.monotonic() + pause
                is_hopeless = resumes_at > min(self._ends_at, began_at + _worth_seconds(error))
                if is_hopeless or self._given_up.wait(pause):
                    raise self._failure(action, error, tries) from error
            longest_pause = min(2 * longest_pause, LONGEST_PAUSE_SECONDS)
            tries += 1

    def _failure(self, action: str, error: Exception, tries: int) -> OSError:
        message = f"{self._where}: cannot {action}: {error}"
        if isinstance(error, ClientError):
            if status_of(error) == 404 and code_of(error) not in {"NoSuchBucket", "NoSuchUpload"}:
                return FileNotFoundError(message)
            if code_of(error) == "RequestTimeTooSkewed":
                message += f": {_clocks(error)}"
        cure = remedy(error) or (str(error) if isinstance(error, ParamValidationError) else None)
        if cure is not None:
            return StoreRefusedError(f"{message}: {cure}")
        if _worth_seconds(error) == 0:
            return OSError(message)
        return OSError(f"{message} (tried {tries} times; an operation like this may take {self._seconds:.0f} s)")


def status_of(error: ClientError) -> int:
    """Return the HTTP status, 0 if there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_of(error: ClientError) -> str:
    """Return S3's name of the error, or the HTTP status where there was no body to name it in."""
    return error.response["Error"].get("Code", "")


def _worth_seconds(error: Exception) -> float:
    """Return for how long it is worth while to try again."""
    if isinstance(error, NoCredentialsError):
        return CREDENTIALS_SECONDS
    if remedy(error) is not None or isinstance(error, ParamValidationError):
        return 0.0
    if isinstance(error, ClientError):
        if code_of(error) in _DAMAGE:
            return DAMAGE_SECONDS
        is_passing = status_of(error) >= 500 or status_of(error) in _PASSING_STATUSES or code_of(error) in _PASSING
        return float("inf") if is_passing else 0.0
    return float("inf")


def _clocks(error: ClientError) -> str:
    """Say how far this host's clock is from that of S3, which refuses what is signed more than 15 minutes off."""
    told = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if told is None:
        return "set this host's clock"
    seconds = time.time() - parsedate_to_datetime(told).timestamp()
    return f"this host's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} that of S3: set it"
