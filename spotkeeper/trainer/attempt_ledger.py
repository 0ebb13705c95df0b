"""The three writes by which an attempt takes part in the ledger; keys and conditions stand in `contract.ledger`."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.contract.ledger import claim_request, completion_request, placement_request
from spotkeeper.trainer.attempt_settings import Claim

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PATIENCE_SECONDS: Final = 120.0
"""How long a ledger that does not answer is asked again: an outage must not end runs that it interrupts."""
MAX_PAUSE_SECONDS: Final = 10.0
PERMANENT_ERRORS: Final = {"AccessDeniedException", "ResourceNotFoundException", "ValidationException"}


class ClaimRefusedError(Exception):
    """The ledger says that this attempt may not have the run."""


class LedgerUnavailableError(Exception):
    """The ledger did not answer for as long as one waits."""


class AttemptLedger:
    """The ledger of one run, for one attempt of it."""

    def __init__(self, run_id: str, claim: Claim, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        config = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=10)
        self._client: DynamoDBClient = boto3.client("dynamodb", config=config)
        self._run_id = run_id
        self._claim = claim
        self._claimed_at = ""
        self._patience_seconds = patience_seconds

    def claim(self) -> int:
        """Take the run and return the epoch. Doing so twice, after a lost reply, is fine: the later epoch counts.

        Raises:
            ClaimRefusedError: if another attempt owns the run, or it has been cancelled.
            LedgerUnavailableError: if the ledger does not answer.
            ValueError: if it can never answer: no such table, or no permission.
        """
        self._claimed_at = _now()
        reply = self._update(
            claim_request(
                table=self._claim.table,
                run_id=self._run_id,
                submission=self._claim.submission,
                job_id=self._claim.job_id,
                attempt=self._claim.attempt,
                claimed_at=self._claimed_at,
            )
        )
        return int(reply["Attributes"]["epoch"]["N"])

    def record_placement(self, epoch: int, placement: dict[str, str]) -> None:
        """Say where the attempt runs.

        Raises:
            LedgerUnavailableError: if the ledger does not answer.
        """
        self._update(
            placement_request(
                table=self._claim.table,
                run_id=self._run_id,
                submission=self._claim.submission,
                job_id=self._claim.job_id,
                attempt=self._claim.attempt,
                epoch=epoch,
                claimed_at=self._claimed_at,
                placement=placement,
            )
        )

    def record_completion(self, epoch: int, step: int | None) -> None:
        """Say that the program is complete: without this the run never counts as succeeded.

        Raises:
            ClaimRefusedError: if a newer attempt owns the run.
            LedgerUnavailableError: if the ledger does not answer.
        """
        self._update(
            completion_request(
                table=self._claim.table, run_id=self._run_id, epoch=epoch, step=step, completed_at=_now()
            )
        )

    def _update(self, request: dict[str, Any]) -> Any:
        give_up_at = time.monotonic() + self._patience_seconds
        pause_seconds = 0.5
        while True:
            try:
                return self._client.update_item(**request)
            except self._client.exceptions.ConditionalCheckFailedException as error:
                raise ClaimRefusedError(f"run {self._run_id} does not belong to this attempt") from error
            except (BotoCoreError, ClientError) as error:
                code = error.response["Error"].get("Code") if isinstance(error, ClientError) else None
                if code in PERMANENT_ERRORS:
                    raise ValueError(f"the ledger {self._claim.table!r} cannot be used: {error}") from error
                if time.monotonic() + pause_seconds > give_up_at:
                    raise LedgerUnavailableError(f"the ledger {self._claim.table!r}: {error}") from error
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, MAX_PAUSE_SECONDS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
