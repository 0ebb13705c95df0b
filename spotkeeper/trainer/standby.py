"""A standby: an attempt on spot that waits for a run which another attempt holds on on-demand.

That it lives is the evidence that spot is there. What it does next is decided in `policy.standby`; here stand the
looking, the writing and the waiting. The user's program does not run before the run has been claimed.
"""

import time
from typing import Final

from spotkeeper.contract.exit_codes import EXIT_FENCED, EXIT_YIELDED
from spotkeeper.contract.handover import POLL_SECONDS
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.policy.standby import Evidence, StandbyStep, StandbyView, next_step
from spotkeeper.trainer.attempt_ledger import AttemptLedger, ClaimRefusedError, LedgerUnavailableError
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.imds import Imds, ImdsUnavailableError
from spotkeeper.trainer.lingering import linger
from spotkeeper.trainer.notice import Interruption, read_interruption

STAYING: Final = frozenset({StandbyStep.WAIT, StandbyStep.ASK})


class Standby:
    """The wait of one attempt; a signal ends it as it ends every attempt whose program does not run yet."""

    def __init__(
        self,
        ledger: AttemptLedger,
        log: EventLog,
        imds: Imds,
        *,
        submission: int,
        evidence: Evidence,
        started_at: float,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Take what it goes by; `started_at`, of `time.monotonic`, is when the attempt got its machine."""
        self._ledger = ledger
        self._log = log
        self._imds = imds
        self._submission = submission
        self._evidence = evidence
        self._started_at = started_at
        self._poll_seconds = poll_seconds
        self._is_ready = False
        self._asked_at: float | None = None

    def wait(self) -> int | None:
        """Wait for the run. Return None once it is to be claimed, otherwise the exit code to leave with.

        Raises:
            ValueError: if the ledger can never answer: no permission.
        """
        self._log.write(LogEvent.STANDBY, submission=self._submission)
        while True:
            interruption = self._read_interruption()
            if interruption is not None:
                self._log.write(LogEvent.NOTICE, kind="interruption", deadline=interruption.deadline)
                linger(interruption, self._log)
                self._log.write(LogEvent.YIELDED, reason="the host outlived its interruption")
                return EXIT_YIELDED
            step = self._take_step()
            if step not in STAYING:
                return None if step is StandbyStep.CLAIM else EXIT_FENCED
            time.sleep(self._poll_seconds)

    def _take_step(self) -> StandbyStep:
        """Look at the run and do what follows."""
        try:
            view = self._ledger.look()
            step = self._next_step(view)
            if step is StandbyStep.LEAVE:
                self._log.write(LogEvent.LEFT, submission=self._submission, reason=self._reason_to_leave(view))
            if step in STAYING and not self._is_ready:
                self._ledger.say_ready()
                self._is_ready = True
            if step is StandbyStep.ASK:
                self._ledger.ask_for_handover()
                self._asked_at = time.monotonic()
                self._log.write(LogEvent.HANDOVER_ASKED, submission=self._submission)
        except (ClaimRefusedError, LedgerUnavailableError):
            # Refused: the run has changed since it was looked at, perhaps to be ours; the next look tells.
            # No answer: what is not known is no reason to leave.
            return StandbyStep.WAIT
        return step

    def _next_step(self, view: StandbyView) -> StandbyStep:
        now = time.monotonic()
        return next_step(
            view,
            submission=self._submission,
            age_seconds=now - self._started_at,
            asked_seconds=None if self._asked_at is None else now - self._asked_at,
            evidence=self._evidence,
        )

    def _reason_to_leave(self, view: StandbyView) -> str:
        if not view.is_live:
            return "the run has ended or rests, or somebody wants it to"
        if view.standby_submission != self._submission:
            return f"the run wants no standby of submission {self._submission} any more"
        return f"the run was not handed over within {self._evidence.patience_seconds:g} s"

    def _read_interruption(self) -> Interruption | None:
        try:
            return read_interruption(self._imds)
        except ImdsUnavailableError:
            return None
