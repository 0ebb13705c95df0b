"""At which step boundary all processes of a training do the same: save, or stop.

Processes learn of a notice, a signal or the time to save at different moments and in different steps. If each acted on
its own, one would wait in an all-reduce for others that have stopped. So they agree on a boundary that all can still
reach, without a collective, without stopping meanwhile, and without a word over the network while there is no news:

1. Boundary k lies before step k. Whoever has news at a boundary wakes everybody, and waits there.
2. In each process a thread, asleep until then, posts the earliest boundary at which its process can still act: the
   one that ends the step it is in, or the one it stands at.
3. Rank 0 takes the latest of these and says it, with the news of all. Whoever comes to a boundary after its thread has
   posted waits there for that word: so nobody can have passed the boundary when it is said.
4. Everybody goes on to that boundary, and acts there. If somebody has not posted in time, the round is void for all.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from spotkeeper.trainer.rank_store import RankSilentError, RankStore

ANSWER_SECONDS: Final = 20.0
"""A thread answers within milliseconds, unless its process does something long that lets no other thread run."""
DECISION_SECONDS: Final = 1800.0
"""Rank 0 may be held up for long by its own program; if it has died, torchrun ends us all. Who misses its word can
agree on nothing any more, which is a training without checkpoints."""
ASLEEP_SECONDS: Final = 10 * 365 * 86_400.0

News = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What all processes have agreed on."""

    boundary: int
    news: list[News]
    """Of all processes that had some."""
    void: str | None = None
    """Why there is no agreement: nobody acts, and who has news may try again at a later boundary."""


class RankAgreement:
    """One process's part in the agreements, one after the other."""

    def __init__(
        self,
        connect: Callable[[], RankStore],
        *,
        rank: int,
        world_size: int,
        boundary: int,
        answer_seconds: float = ANSWER_SECONDS,
        decision_seconds: float = DECISION_SECONDS,
    ) -> None:
        """Take part, beginning with the step that comes after `boundary`; `connect` makes a connection to the store."""
        self._store = connect()
        self._thread_store = connect()
        self._rank = rank
        self._world_size = world_size
        self._answer_seconds = answer_seconds
        self._decision_seconds = decision_seconds
        self._changed = threading.Condition()
        self._round = self._oldest = 0
        self._earliest = boundary + 1
        self._has_posted = False
        self._news: News | None = None
        self._decisions: deque[Decision] = deque()
        self._lost: str | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="spotkeeper-ranks", daemon=True)
        self._thread.start()
        # A thread that wakes up while Python is being torn down ends the process by a crash.
        atexit.register(self.close)

    def at(self, boundary: int, news: News | None) -> Decision | None:
        """Return what has to be done at this boundary, or None: the next step may begin.

        Call it again until it returns None; the news it is given should then be what is left to do. A void
        decision is returned once, and should not be answered by the same news at the same boundary.
        """
        with self._changed:
            self._earliest = boundary
            while True:
                if self._decisions and self._decisions[0].boundary <= boundary:
                    return self._decisions.popleft()
                is_idle = not self._has_posted and (news is None or bool(self._decisions))
                if is_idle or self._lost is not None:
                    self._earliest = boundary + 1
                    return None
                if not self._has_posted:
                    self._news, news = news, None
                    self._wake_all()
                self._wait_for_the_end_of(self._round)

    @property
    def lost(self) -> str | None:
        """Why no agreement is possible any more, or None."""
        return self._lost

    def close(self) -> None:
        """Take no part any more."""
        atexit.unregister(self.close)
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self._store.set(_wake(self._round, self._rank), None)
            except RankSilentError:
                return  # the thread has lost the store, too
        self._thread.join(self._answer_seconds)

    def _wake_all(self) -> None:
        try:
            for rank in range(self._world_size):
                self._store.set(_wake(self._round, rank), None)
        except RankSilentError as error:
            self._lost = str(error)

    def _wait_for_the_end_of(self, number: int) -> None:
        while self._round == number and self._lost is None:
            self._changed.wait(1.0)

    # In the thread

    def _listen(self) -> None:
        try:
            while self._take_part_in(self._round):
                pass
        except RankSilentError as error:
            with self._changed:
                self._lost = str(error)
                self._changed.notify_all()

    def _take_part_in(self, number: int) -> bool:
        """Go through one round; tell whether another one may follow."""
        if self._has_been_closed():
            return False
        self._thread_store.get(_wake(number, self._rank), ASLEEP_SECONDS)
        if self._has_been_closed():
            return False
        with self._changed:
            post = {"boundary": self._earliest, "news": self._news}
            self._has_posted = True
        self._thread_store.set(_post(number, self._rank), post)
        if self._rank == 0:
            said = self._decide(number)
            self._thread_store.set(_decision(number), said)
            if said["void"] is None:
                self._forget_rounds_before(number)
        else:
            said = self._thread_store.get(_decision(number), self._decision_seconds)
        with self._changed:
            self._decisions.append(Decision(**said))
            self._round = number + 1
            self._has_posted = False
            self._news = None
            self._changed.notify_all()
        return True

    def _has_been_closed(self) -> bool:
        with self._changed:
            return self._is_closed

    def _decide(self, number: int) -> dict[str, Any]:
        give_up_at = time.monotonic() + self._answer_seconds
        posts = []
        for rank in range(self._world_size):
            try:
                posts.append(self._thread_store.get(_post(number, rank), give_up_at - time.monotonic()))
            except RankSilentError:
                return {"boundary": 0, "news": [], "void": f"rank {rank} did not answer in {self._answer_seconds:g} s"}
        return {
            "boundary": max(post["boundary"] for post in posts),
            "news": [post["news"] for post in posts if post["news"] is not None],
            "void": None,
        }

    def _forget_rounds_before(self, number: int) -> None:
        """Drop what was said in rounds that everybody has left: all have posted in this one."""
        while self._oldest < number:
            self._thread_store.delete(_decision(self._oldest))
            for rank in range(self._world_size):
                self._thread_store.delete(_wake(self._oldest, rank))
                self._thread_store.delete(_post(self._oldest, rank))
            self._oldest += 1


def _wake(number: int, rank: int) -> str:
    return f"round/{number}/wake/{rank}"


def _post(number: int, rank: int) -> str:
    return f"round/{number}/post/{rank}"


def _decision(number: int) -> str:
    return f"round/{number}/decision"
