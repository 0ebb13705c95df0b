"""The processes that train one model together: rank 0 leads, and what they say to each other has a deadline.

Rank 0 chooses the checkpoint to resume and commits those that are made. Each other rank writes an object of its own for
every checkpoint, tells rank 0 what it wrote, and is told what became of the whole. When somebody fails, or says nothing
in time, there is no checkpoint, for nobody; training goes on, and the next one is tried as usual.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from spotkeeper.trainer.checkpoint import Checkpoint, Checkpoints, FencedError, RankPart
from spotkeeper.trainer.loader import Share
from spotkeeper.trainer.rank_agreement import Decision, News, RankAgreement
from spotkeeper.trainer.rank_settings import RankSettings
from spotkeeper.trainer.rank_store import RankSilentError, RankStore

CHOICE_SECONDS: Final = 1800.0
"""Rank 0 reads and verifies the checkpoint first."""
PART_SECONDS: Final = 60.0
"""From the moment when rank 0 has written its own, the largest, to the last part."""
VERDICT_SECONDS: Final = 1800.0
"""Rank 0 writes the state of the model, and its store may be slow; torchrun ends us all if it dies."""

CollectParts = Callable[[], list[RankPart]]
Reply = Mapping[str, Any]
"""What became of a save: {"committed": key}, {"failed": reason} or {"fenced": reason}."""

_num_opened: Counter[str] = Counter()
"""Of this process; all ranks open their runs in the same order."""


class Ranks:
    """This process's line to the others."""

    @classmethod
    def of_run(cls, settings: RankSettings, run_id: str) -> "Ranks":
        """Connect the ranks of this run: those of this start by torchrun, and of its so manieth opening in a process.

        Raises:
            RankSilentError: if there is no store to connect to.
        """
        number = _num_opened[run_id]
        _num_opened[run_id] += 1
        return cls(settings, f"spotkeeper/{run_id}/{settings.restart}/{number}")

    def __init__(self, settings: RankSettings, prefix: str, *, part_seconds: float = PART_SECONDS) -> None:
        """Connect those with the same prefix; see `of_run`."""
        self._settings = settings
        self._prefix = prefix
        self._part_seconds = part_seconds
        self._store = self._connect()
        self._agreement: RankAgreement | None = None
        self._num_saves = 0
        self._num_settled = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0: it decides when to save, commits, and speaks for all."""
        return self._settings.rank == 0

    @property
    def rank(self) -> int:
        """From 0."""
        return self._settings.rank

    @property
    def world_size(self) -> int:
        """The number of processes, at least 2."""
        return self._settings.world_size

    @property
    def watches_host(self) -> bool:
        """Whether this process asks for notices; one of a host does, since all share them."""
        return self._settings.local_rank == 0

    @property
    def share(self) -> Share:
        """What this process loads of each batch."""
        return Share(self.rank, self.world_size)

    # The start

    def open_checkpoints(self, join: Callable[[int | None], Checkpoints]) -> tuple[Checkpoints, Checkpoint | None]:
        """Return the run's checkpoints and the newest valid one: that which rank 0 has found.

        `join` is given a fencing number, or None in rank 0: then it takes the ledger's or the next.

        Raises:
            FencedError: if rank 0 is fenced.
            OSError: if the store does not answer, or rank 0 could not start.
        """
        if not self.leads:
            said = self._store.get("choice", CHOICE_SECONDS)
            if "fenced" in said:
                raise FencedError(said["fenced"])
            if "failed" in said:
                raise OSError(f"rank 0 could not start: {said['failed']}")
            checkpoints = join(said["epoch"])
            return checkpoints, checkpoints.load(said["manifest"], self.rank) if said["manifest"] else None
        try:
            checkpoints = join(None)
            checkpoint = checkpoints.newest_valid()
        except BaseException as error:
            reason = {"fenced": error.reason} if isinstance(error, FencedError) else {"failed": str(error)}
            self._store.set("choice", reason)
            raise
        self._store.set("choice", {"epoch": checkpoints.epoch, "manifest": checkpoint.key if checkpoint else None})
        return checkpoints, checkpoint

    # Agreement

    def begin(self, boundary: int) -> None:
        """Be ready to agree, from the step on that comes after `boundary`."""
        self._agreement = RankAgreement(self._connect, rank=self.rank, world_size=self.world_size, boundary=boundary)

    def at(self, boundary: int, news: News | None) -> Decision | None:
        """Return what all do at this boundary; see `RankAgreement.at`."""
        assert self._agreement is not None
        return self._agreement.at(boundary, news)

    @property
    def lost(self) -> str | None:
        """Why no agreement is possible any more, or None."""
        return self._agreement.lost if self._agreement is not None else None

    def end(self) -> None:
        """Agree on nothing more."""
        if self._agreement is not None:
            self._agreement.close()
            self._agreement = None

    # Saves

    def save(self, step: int, *, commit: Callable[[CollectParts], Reply], write_part: Callable[[], RankPart]) -> Reply:
        """Make a checkpoint of all ranks, and return in each what `commit` returned in rank 0.

        All must be at this step. Rank 0 calls `commit` with a function that returns the parts of the others; each of
        those calls `write_part`. What either raises is raised in its rank, and a failed checkpoint for the others.

        Raises:
            RankSilentError: in another rank than 0, if that did not say what became of the save.
        """
        self._num_saves += 1  # in all ranks alike: the number tells of which save something is said
        return self._lead_save(step, commit) if self.leads else self._follow_save(step, write_part)

    def _lead_save(self, step: int, commit: Callable[[CollectParts], Reply]) -> Reply:
        reply: Reply = {"failed": "rank 0 could not write its part"}
        fenced: list[str] = []
        try:
            reply = commit(lambda: self._collect_parts(step, fenced))
            if fenced:
                reply = {"fenced": fenced[0]}
        finally:
            with suppress(RankSilentError):  # the store has gone with torchrun, and so will the others
                self._store.set(_verdict(self._num_saves), dict(reply))
        return reply

    def _collect_parts(self, step: int, fenced: list[str]) -> list[RankPart]:
        """Return what the others have written for the checkpoint of this step.

        Raises:
            RankSilentError: naming the rank that failed, or said nothing in time.
        """
        parts = []
        give_up_at = time.monotonic() + self._part_seconds
        for rank in range(1, self.world_size):
            said = self._store.get(_part(self._num_saves, rank), give_up_at - time.monotonic())
            if "fenced" in said:
                fenced.append(said["fenced"])
            if "part" not in said:
                raise RankSilentError(f"rank {rank} could not write its part: {said.get('failed', 'it is fenced')}")
            if said["step"] != step:
                raise RankSilentError(f"rank {rank} is at step {said['step']}, and rank 0 at step {step}")
            parts.append(RankPart(**said["part"]))
        self._forget_earlier_saves()
        return parts

    def _follow_save(self, step: int, write_part: Callable[[], RankPart]) -> Reply:
        raised: Exception | None = None
        try:
            said = {"step": step, "part": asdict(write_part())}
        except FencedError as error:
            said = {"fenced": error.reason}
        except OSError as error:
            said = {"failed": str(error)}
        except Exception as error:  # noqa: BLE001  (raised below, when rank 0 knows)
            said, raised = {"failed": str(error)}, error
        self._store.set(_part(self._num_saves, self.rank), said)
        reply: Reply = self._store.get(_verdict(self._num_saves), VERDICT_SECONDS)
        if raised is not None:
            raise raised
        return reply

    def _forget_earlier_saves(self) -> None:
        """Drop what was said about saves that everybody has left: all have spoken about the present one."""
        while self._num_settled < self._num_saves - 1:
            self._num_settled += 1
            self._store.delete(_verdict(self._num_settled))
            for rank in range(1, self.world_size):
                self._store.delete(_part(self._num_settled, rank))

    def _connect(self) -> RankStore:
        return RankStore(self._settings, self._prefix)


def _part(save: int, rank: int) -> str:
    return f"save/{save}/part/{rank}"


def _verdict(save: int) -> str:
    return f"save/{save}/verdict"
