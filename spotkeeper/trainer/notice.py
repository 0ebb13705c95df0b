"""News that this attempt should save: from the metadata service, signals and the program. They only set flags.

The training loop looks at the flags between two steps, where the state is whole, and does the work there. If the step
takes too long for that, `mid_step` does what it can.
"""

import json
import math
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Any, Final, Literal, Self

from spotkeeper.trainer.deadline import Deadline
from spotkeeper.trainer.imds import Imds, ImdsUnavailableError
from spotkeeper.trainer.signal_wakeup import SignalWakeup

INTERRUPTION_PATH: Final = "spot/instance-action"
REBALANCE_PATH: Final = "events/recommendations/rebalance"

POLL_SECONDS: Final = 2.0
"""EC2's guide recommends 5; each poll costs about a millisecond, and a notice is only 120 seconds long."""
ABSENT_POLL_SECONDS: Final = 30.0
"""While no service has ever answered, as on a laptop."""
LINGER_GRACE_SECONDS: Final = 120.0
"""The announced time is approximate; a host that outlives it by this much will not be taken."""
SIGNAL_PATIENCE_SECONDS: Final = 30.0
"""What Batch leaves between SIGTERM and SIGKILL (StopTimeout of ECS): who asks again after it means it."""

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

SignalHandler = Callable[[int, FrameType | None], Any] | int | None


@dataclass(frozen=True, slots=True)
class Interruption:
    """EC2 takes the host away."""

    action: str
    """terminate, stop or hibernate."""
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """One piece of news, as the log tells it."""

    kind: str
    """interruption, rebalance, requested, or the name of a signal."""
    deadline: datetime | None = None
    reason: str | None = None
    """What the program said when it requested to yield."""


def parse_interruption(text: str, *, now: datetime) -> Interruption | None:
    """Return what the document at `spot/instance-action` announces, or None if it is not such a document."""
    document = _parse_object(text)
    if document is None or document.get("action") not in {"terminate", "stop", "hibernate"}:
        return None
    if document["action"] == "hibernate":
        return Interruption("hibernate", now)  # it begins at once; the time says nothing
    deadline = _parse_time(document.get("time"))
    return Interruption(document["action"], deadline) if deadline else None


def parse_rebalance(text: str) -> datetime | None:
    """Return when EC2 began to expect an interruption, or None if the document does not say so."""
    document = _parse_object(text)
    return _parse_time(document.get("noticeTime")) if document else None


def read_interruption(imds: Imds) -> Interruption | None:
    """Ask whether EC2 takes this host away.

    Raises:
        ImdsUnavailableError: if the metadata service does not answer.
    """
    text = imds.read(INTERRUPTION_PATH)
    return None if text is None else parse_interruption(text, now=datetime.now(UTC))


class NoticeWatch:
    """Watches for notices while its `with` block runs. Each attribute is set once and stays.

    A stop signal waits for the end of the step. If nobody hears it for `signal_patience_seconds`, because the
    loop has been left while its iterator lives on, the next one does what it would do without this watch.

    Without `imds` it watches for signals alone, as the processes of a host do that have one of them ask.
    """

    def __init__(self, imds: Imds | None, *, signal_patience_seconds: float = SIGNAL_PATIENCE_SECONDS) -> None:
        self.interruption: Interruption | None = None
        self.rebalance: datetime | None = None
        self.signal_name: str | None = None
        self.request_reason: str | None = None
        self._interruption_deadline: Deadline | None = None
        self._request_deadline: Deadline | None = None
        self._num_signals = 0
        self._signal_at = 0.0
        self._signal_patience_seconds = signal_patience_seconds
        self._imds = imds
        self._told: set[str] = set()
        self._ended = threading.Event()
        self._previous_handlers: dict[int, SignalHandler] = {}
        self._wakeup: SignalWakeup | None = None

    def __enter__(self) -> Self:
        # Python lets the main thread alone install handlers; elsewhere the metadata service must do.
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
            self._wakeup = SignalWakeup(STOP_SIGNALS)
        if self._imds is not None:
            threading.Thread(target=self._poll, args=(self._imds,), name="spotkeeper-notices", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        # The garbage collector may close an abandoned loop in another thread, which may not do this.
        if threading.current_thread() is threading.main_thread():
            for number in self._previous_handlers:
                self._restore_handler(number)
            if self._wakeup is not None:
                self._wakeup.close()

    @property
    def cause(self) -> Literal["notice", "signal", "requested"] | None:
        """Why a state should be saved now, as a checkpoint tells it. To be asked in any thread.

        Another thread learns of a signal before the main thread does that waits in a long call of C code.
        """
        if self.interruption is not None:
            return "notice"
        if self.signal_name is not None or (self._wakeup is not None and self._wakeup.has_come()):
            return "signal"
        return "requested" if self.request_reason is not None else None

    @property
    def stop_reason(self) -> str | None:
        """Why the attempt is to stop although its host stays: the name of a signal, or what the program said."""
        return self.signal_name or self.request_reason

    def request(self, reason: str, within_seconds: float | None) -> None:
        """Take the program's own notice. It may come from any thread; the first counts."""
        if self.request_reason is None:
            if within_seconds is not None:
                self._request_deadline = Deadline.after(within_seconds)
            self.request_reason = reason

    def budget_seconds(self) -> float | None:
        """Return what the earliest deadline, less its margin, leaves for an emergency save; None if none is known.

        None is known after a signal alone: who sends it, and when it is followed by SIGKILL, a program cannot see.
        """
        deadlines = [each for each in (self._interruption_deadline, self._request_deadline) if each is not None]
        return min((left for each in deadlines if (left := each.budget_seconds()) is not None), default=None)

    def hear(self, interruption: Interruption) -> None:
        """Take note of an interruption, which another process of this training may have seen. The first counts."""
        if self.interruption is None:
            seconds = (interruption.deadline - datetime.now(UTC)).total_seconds()
            self._interruption_deadline = Deadline.after(seconds)
            self.interruption = interruption

    def take_news(self) -> list[Notice]:
        """Return what has come in since the last call."""
        news = []
        if self.rebalance is not None:
            news.append(Notice("rebalance"))
        if self.interruption is not None:
            news.append(Notice("interruption", self.interruption.deadline))
        if self.signal_name is not None:
            news.append(Notice(self.signal_name))
            self._signal_patience_seconds = math.inf  # heard: what follows it is a save, to be left alone
        if self.request_reason is not None:
            news.append(Notice("requested", reason=self.request_reason))
        news = [notice for notice in news if notice.kind not in self._told]
        self._told.update(notice.kind for notice in news)
        return news

    def wait_for_end(self, grace_seconds: float, *, expected_signals: int = 0) -> None:
        """Wait for the host to go; return if more signals have come than expected, or it outlives its deadline.

        It may outlive it by the grace, which begins now where no deadline is known, or it had passed when it was seen.
        """
        now = time.monotonic()
        gone_at = max(now, self._interruption_deadline.at if self._interruption_deadline else now) + grace_seconds
        # Not an Event: a signal handler that sets one can meet the lock that the waiting thread holds.
        while self._num_signals <= expected_signals and time.monotonic() < gone_at:
            time.sleep(0.1)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        is_second = self.signal_name == signal.Signals.SIGINT.name
        if self.signal_name is None:
            self._signal_at = time.monotonic()
        elif time.monotonic() - self._signal_at > self._signal_patience_seconds:
            self._restore_handler(number)
            signal.raise_signal(number)
        self.signal_name = signal.Signals(number).name
        self._num_signals += 1
        if is_second and number == signal.SIGINT:
            raise KeyboardInterrupt  # somebody at a keyboard does not want to wait for the save

    def _restore_handler(self, number: int) -> None:
        handler = self._previous_handlers[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _poll(self, imds: Imds) -> None:
        pause_seconds = ABSENT_POLL_SECONDS
        while not self._ended.is_set():
            try:
                self._look(imds)
                pause_seconds = POLL_SECONDS  # from now on: a service that has answered once is there
            except ImdsUnavailableError:
                pass
            # Jitter, so that the processes of one host do not ask in step.
            self._ended.wait(pause_seconds * (0.8 + 0.4 * secrets.randbelow(1000) / 1000))

    def _look(self, imds: Imds) -> None:
        """Ask once. The first answer counts: a deadline that moves with every poll would never come."""
        if self.interruption is None:
            interruption = read_interruption(imds)
            if interruption is not None:
                self.hear(interruption)
        if self.rebalance is None:
            text = imds.read(REBALANCE_PATH)
            if text is not None:
                self.rebalance = parse_rebalance(text)


def _parse_object(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _parse_time(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
