"""How an attempt takes part in the ledger; keys and conditions stand in `contract.ledger` and `contract.handover`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from spotkeeper.contract.handover import handover_request, ready_request, run_view, view_request
from spotkeeper.contract.ledger import (
    claim_request,
    completion_request,
    last_claim_request,
    next_attempt,
    placement_request,
)
from spotkeeper.policy.standby import StandbyView
from spotkeeper.trainer.attempt_settings import Claim
from spotkeeper.trainer.aws_refusal import remedy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PATIENCE_SECONDS: Final = 120.0
"""How long a ledger that does not answer is asked again: an outage must not end runs that it interrupts."""
MAX_PAUSE_SECONDS: Final = 10.0
PLACEMENT_PATIENCE_SECONDS: Final = 10.0
"""Where an attempt runs is worth knowing, not worth waiting for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """What a claim gave the attempt."""

    epoch: int
    attempt: int
    """Its number: that which it was told, or the next of its job."""
    market: str | None
    """Market of the run's submission, "spot" or "on-demand"; None where the ledger does not say."""
    variables: Mapping[str, str]
    """Environment variables of the run."""


class ClaimRefusedError(Exception):
    """The ledger says that this attempt may not have the run, and, after a claim, how it stands with it."""

    def __init__(self, message: str, view: StandbyView) -> None:
        super().__init__(message)
        self.view = view


class AlreadyCompleteError(Exception):
    """An earlier attempt has recorded that the run is complete: there is nothing left to do."""

    def __init__(self, step: int | None) -> None:
        super().__init__("the run is complete already")
        self.step = step


class LedgerUnavailableError(Exception):
    """The ledger did not answer for as long as one waits."""


class AttemptLedger:
    """The ledger of one run, for one attempt of it."""

    def __init__(self, run_id: str, claim: Claim, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        config = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=10)
        self._client: DynamoDBClient = boto3.client("dynamodb", config=config)
        # Named before any thread asks: botocore makes these classes at their first use, and where two threads do so at
        # once, the one that is raised is not the one that is caught.
        self._refused = self._client.exceptions.ConditionalCheckFailedException
        self._run_id = run_id
        self._claim = claim
        self._attempt = claim.attempt or 0
        self._claimed_at = ""
        self._patience_seconds = patience_seconds

    def claim(self) -> Claimed:
        """Take the run. Doing so twice, after a lost reply, is fine: the later epoch counts.

        A run that the ledger does not know is waited for: one that was submitted past Spotkeeper is recorded when its
        job is first observed.

        Raises:
            AlreadyCompleteError: if the run is complete.
            ClaimRefusedError: if another attempt owns the run, or it has been cancelled.
            LedgerUnavailableError: if the ledger does not answer.
            ValueError: if it can never answer: no such table, no permission, no credentials.
        """
        if self._claim.attempt is None:
            request = last_claim_request(table=self._claim.table, run_id=self._run_id)
            found = self._ask(self._client.get_item, request, patience_seconds=self._patience_seconds)
            self._attempt = next_attempt(found.get("Item", {}), self._claim.job_id)
        self._claimed_at = _now()
        reply = self._update(
            claim_request(
                table=self._claim.table,
                run_id=self._run_id,
                submission=self._claim.submission,
                job_id=self._claim.job_id,
                attempt=self._attempt,
                claimed_at=self._claimed_at,
            ),
            awaits_run=True,
        )
        run = reply["Attributes"]
        return Claimed(
            epoch=int(run["epoch"]["N"]),
            attempt=self._attempt,
            market=run.get("market", {}).get("S"),
            variables={name: value["S"] for name, value in run.get("variables", {}).get("M", {}).items()},
        )

    def record_placement(self, epoch: int, placement: dict[str, str]) -> None:
        """Say where the attempt runs.

        Raises:
            LedgerUnavailableError: if the ledger does not answer.
            ValueError: if it refuses.
        """
        self._update(
            placement_request(
                table=self._claim.table,
                run_id=self._run_id,
                submission=self._claim.submission,
                job_id=self._claim.job_id,
                attempt=self._attempt,
                epoch=epoch,
                claimed_at=self._claimed_at,
                placement=placement,
            ),
            patience_seconds=min(self._patience_seconds, PLACEMENT_PATIENCE_SECONDS),
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

    # Handover. Each of these asks once: whoever calls it does so again in a moment anyway.

    def look(self) -> StandbyView:
        """Return how it stands with the run.

        Raises:
            LedgerUnavailableError: if the ledger does not answer.
            ValueError: if it can never answer: no permission.
        """
        request = view_request(table=self._claim.table, run_id=self._run_id)
        reply = self._ask(self._client.get_item, request, patience_seconds=0)
        return StandbyView(**run_view(reply.get("Item", {})))

    def say_ready(self) -> None:
        """Say that this attempt, as the run's standby, has a machine.

        Raises:
            ClaimRefusedError: if the run wants no standby of this submission (any more).
            LedgerUnavailableError: if the ledger does not answer.
        """
        request = ready_request(
            table=self._claim.table, run_id=self._run_id, submission=self._claim.submission, ready_at=_now()
        )
        self._update(request, patience_seconds=0)

    def ask_for_handover(self) -> None:
        """Ask the attempt that holds the run for it. Asking again, after a lost reply, is asking once.

        Raises:
            ClaimRefusedError: if the run has ended, rests or is about to, or has another standby.
            LedgerUnavailableError: if the ledger does not answer.
        """
        request = handover_request(
            table=self._claim.table, run_id=self._run_id, submission=self._claim.submission, asked_at=_now()
        )
        self._update(request, patience_seconds=0)

    def _update(
        self, request: dict[str, Any], patience_seconds: float | None = None, *, awaits_run: bool = False
    ) -> Any:
        patience_seconds = self._patience_seconds if patience_seconds is None else patience_seconds
        return self._ask(self._client.update_item, request, patience_seconds=patience_seconds, awaits_run=awaits_run)

    def _ask(
        self,
        operation: Callable[..., Any],
        request: dict[str, Any],
        *,
        patience_seconds: float,
        awaits_run: bool = False,
    ) -> Any:
        give_up_at = time.monotonic() + patience_seconds
        pause_seconds = 0.5
        while True:
            try:
                return operation(**request)
            except self._refused as error:
                is_over = time.monotonic() + pause_seconds > give_up_at
                if not awaits_run or is_over or "Item" in error.response:
                    raise self._refusal(error.response) from error
            except (BotoCoreError, ClientError) as error:
                cure = remedy(error)
                is_over = time.monotonic() + pause_seconds > give_up_at
                # A role's credentials may come late; every other refusal stays what it is.
                if _is_malformed(error) or (cure and (is_over or not isinstance(error, NoCredentialsError))):
                    raise ValueError(
                        f"the ledger {self._claim.table!r} cannot be used: {error}" + (f": {cure}" if cure else "")
                    ) from error
                if is_over:
                    raise LedgerUnavailableError(f"the ledger {self._claim.table!r}: {error}") from error
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, MAX_PAUSE_SECONDS)

    def _refusal(self, response: Mapping[str, Any]) -> Exception:
        """Return what the run's item, as DynamoDB gave it with the refusal, says about the reason."""
        item = response.get("Item", {})
        if "completion" in item:
            step = item["completion"]["M"].get("step")
            return AlreadyCompleteError(int(step["N"]) if step else None)
        names = ("state", "submission", "claimed_job_id", "claimed_attempt", "epoch", "cancel_requested_at")
        known = {name: next(iter(item[name].values())) for name in names if name in item}
        told = ", ".join(f"{name} {value}" for name, value in known.items())
        message = f"run {self._run_id} does not belong to this attempt" + (told and f": {told}")
        return ClaimRefusedError(message, StandbyView(**run_view(item)))


def _is_malformed(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"].get("Code") == "ValidationException"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
