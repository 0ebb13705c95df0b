"""What ranks say to each other about checkpoints, with two of them played by threads over one real store."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.trainer.checkpoint import Checkpoints, FencedError, RankPart
from spotkeeper.trainer.loader import Share
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.rank_settings import RankSettings
from spotkeeper.trainer.rank_state import with_own_part
from spotkeeper.trainer.rank_store import RankSilentError, RankStore
from spotkeeper.trainer.ranks import CollectParts, Ranks, Reply
from tests.trainer.conftest import closed_port


class Pair:
    """Rank 0 and rank 1 of one run; each does one thing at a time."""

    def __init__(self, part_seconds: float) -> None:
        leader = RankSettings(
            rank=0,
            local_rank=0,
            world_size=2,
            store_host="127.0.0.1",
            store_port=closed_port(),
            has_store_of_launcher=False,
            restart=0,
        )
        self.server = RankStore(leader, "server")
        self.leader = Ranks(leader, "pair", part_seconds=part_seconds)
        self.follower = Ranks(replace(leader, rank=1, local_rank=1), "pair", part_seconds=part_seconds)
        self.pool = ThreadPoolExecutor(2)

    def save(
        self, commit: Callable[[CollectParts], Reply], write_part: Callable[[], RankPart], *, steps: tuple[int, int]
    ) -> tuple[Future[Reply], Future[Reply]]:
        """Let both make the same save; return what becomes of it in each."""
        lead = self.pool.submit(self.leader.save, steps[0], commit=commit, write_part=_unasked)
        follow = self.pool.submit(self.follower.save, steps[1], commit=_unasked, write_part=write_part)
        return lead, follow


def _unasked(*_: Any) -> Any:
    raise AssertionError("rank 0 writes no part, and rank 1 does not commit")


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair(part_seconds=10)
    yield pair
    pair.pool.shutdown()


def part(number: int = 1) -> RankPart:
    return RankPart({"key": f"{number}", "bytes": 1, "crc64nvme": "", "version_id": None}, {"number": number})


DONE: Reply = {"committed": "manifest"}


def commit_all(collect: CollectParts) -> Reply:
    """Do what an engine does: who fails or says nothing costs this checkpoint only."""
    try:
        collect()
    except RankSilentError as error:
        return {"failed": str(error)}
    return DONE


def test_rank_0_commits_with_the_parts_of_all_and_everybody_knows(pair: Pair) -> None:
    collected = []

    def commit(collect: CollectParts) -> Reply:
        collected.append(collect())
        return DONE

    for number in range(3):
        lead, follow = pair.save(commit, lambda at=number: part(at), steps=(number, number))  # type: ignore[misc]
        assert (lead.result(), follow.result()) == (DONE, DONE)

    assert collected == [[part(number)] for number in range(3)]


def test_a_part_that_could_not_be_written_costs_the_checkpoint_for_all_and_the_next_one_works(pair: Pair) -> None:
    def fail() -> RankPart:
        raise OSError("no space left on device")

    lead, follow = pair.save(commit_all, fail, steps=(4, 4))
    failed = {"failed": "rank 1 could not write its part: no space left on device"}
    assert (lead.result(), follow.result()) == (failed, failed)

    lead, follow = pair.save(commit_all, part, steps=(5, 5))
    assert (lead.result(), follow.result()) == (DONE, DONE)


def test_what_is_wrong_in_one_rank_is_raised_there_and_a_failure_for_the_other(pair: Pair) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("a set cannot be stored")

    lead, follow = pair.save(commit_all, fail, steps=(4, 4))
    with pytest.raises(ValueError, match="a set"):
        follow.result()
    assert lead.result() == {"failed": "rank 1 could not write its part: a set cannot be stored"}

    lead, follow = pair.save(fail, part, steps=(5, 5))
    with pytest.raises(ValueError, match="a set"):
        lead.result()
    assert follow.result() == {"failed": "rank 0 could not write its part"}


def test_a_rank_that_says_nothing_is_not_waited_for_longer_than_its_time() -> None:
    pair = Pair(part_seconds=0.3)
    began = time.monotonic()

    assert "save/1/part/1 was not said" in pair.leader.save(4, commit=commit_all, write_part=_unasked)["failed"]

    assert time.monotonic() - began < 5
    assert "failed" in pair.follower.save(4, commit=_unasked, write_part=part)  # late: it is told at once
    lead, follow = pair.save(commit_all, part, steps=(5, 5))
    assert (lead.result(), follow.result()) == (DONE, DONE)


def test_parts_of_two_steps_make_no_checkpoint(pair: Pair) -> None:
    lead, follow = pair.save(commit_all, part, steps=(4, 5))

    assert lead.result() == follow.result() == {"failed": "rank 1 is at step 5, and rank 0 at step 4"}


def test_when_any_rank_is_fenced_all_are(pair: Pair) -> None:
    def fenced() -> RankPart:
        raise FencedError("epoch 2 has started")

    for commit, write_part in ((lambda _: {"fenced": "epoch 2 has started"}, part), (commit_all, fenced)):
        lead, follow = pair.save(commit, write_part, steps=(4, 4))
        assert lead.result() == follow.result() == {"fenced": "epoch 2 has started"}


def write_part(checkpoints: Checkpoints, *, step: int, state: dict[str, Any]) -> RankPart:
    empty = b"\x02\0\0\0\0\0\0\0{}"
    stored = checkpoints.write_data(step=step, chunks=[memoryview(empty)], total_bytes=len(empty), rank=1)
    return RankPart(stored, state)


def test_all_resume_what_rank_0_has_found_each_with_its_own_part(pair: Pair, tmp_path: Path) -> None:
    def join(epoch: int | None) -> Checkpoints:
        return Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=epoch)

    first = join(1)
    written = write_part(first, step=3, state={"objects": {}, "loop": {"position": 11}})
    common = first.write_data(step=3, chunks=[memoryview(b"0" * 8)], total_bytes=8)
    key = first.commit(step=3, cause="periodic", stored=common, state={}, parts=[written])

    ends = [pair.pool.submit(ranks.open_checkpoints, join) for ranks in (pair.leader, pair.follower)]

    (leading, of_leader), (following, of_follower) = (end.result() for end in ends)
    assert leading.epoch == following.epoch == 2
    assert of_leader is not None
    assert of_follower is not None
    assert of_leader.key == of_follower.key == key
    assert of_leader.part is None
    state = {"objects": {"model": 1}, "loop": {"position": 10, "loader": {}}}
    assert with_own_part(state, of_follower, rank=1, world_size=2) == {
        "objects": {"model": 1},
        "loop": {"position": 11, "loader": {}},
    }


def test_a_damaged_part_of_any_rank_makes_the_checkpoint_invalid(tmp_path: Path) -> None:
    checkpoints = Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1)
    written = write_part(checkpoints, step=3, state={"loop": {}})
    common = checkpoints.write_data(step=3, chunks=[memoryview(b"0" * 8)], total_bytes=8)
    checkpoints.commit(step=3, cause="periodic", stored=common, state={}, parts=[written])
    damaged = tmp_path / written.stored["key"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")

    assert Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=2).newest_valid() is None


def test_a_rank_deletes_what_it_wrote_for_checkpoints_that_never_came_to_be(tmp_path: Path) -> None:
    leading, following = (Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1) for _ in range(2))
    failed, written = (write_part(following, step=step, state={"loop": {}}) for step in (3, 4))
    common = leading.write_data(step=4, chunks=[memoryview(b"0" * 8)], total_bytes=8)
    leading.commit(step=4, cause="periodic", stored=common, state={}, parts=[written])
    assert (tmp_path / failed.stored["key"]).exists()

    following.sweep_uncommitted()

    assert not (tmp_path / failed.stored["key"]).exists()
    assert (tmp_path / written.stored["key"]).exists()


@pytest.mark.parametrize(
    ("error", "expected"), [(FencedError("late"), FencedError), (OSError("no bucket"), OSError), (KeyError(1), OSError)]
)
def test_a_start_that_fails_in_rank_0_ends_the_others_at_once(
    pair: Pair, error: BaseException, expected: type[BaseException]
) -> None:
    def join(_epoch: int | None) -> Checkpoints:
        raise error

    ends = [pair.pool.submit(ranks.open_checkpoints, join) for ranks in (pair.leader, pair.follower)]

    with pytest.raises(type(error)):
        ends[0].result()
    with pytest.raises(expected):
        ends[1].result()


def test_ranks_know_their_places(pair: Pair) -> None:
    assert (pair.leader.leads, pair.follower.leads) == (True, False)
    assert (pair.leader.watches_host, pair.follower.watches_host) == (True, False)
    assert pair.follower.share == Share(rank=1, world_size=2)
