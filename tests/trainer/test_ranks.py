"""What ranks say to each other about checkpoints, with two of them played by threads over one real store."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract.exit_codes import EXIT_FENCED
from spotkeeper.trainer import rank_state
from spotkeeper.trainer.checkpoint import Checkpoints, FencedError, RankPart
from spotkeeper.trainer.loader import Share
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.rank_settings import RankSettings
from spotkeeper.trainer.rank_store import RankStore
from spotkeeper.trainer.ranks import CollectParts, Ranks
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
        self, commit: Callable[[CollectParts], bool], write_part: Callable[[], RankPart], *, steps: tuple[int, int]
    ) -> tuple[Future[bool], Future[bool]]:
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


def commit_all(collect: CollectParts) -> bool:
    """Do what an engine does: a store that fails costs this checkpoint only."""
    try:
        collect()
    except OSError:
        return False
    return True


def test_rank_0_commits_with_the_parts_of_all_and_everybody_knows(pair: Pair) -> None:
    collected = []

    def commit(collect: CollectParts) -> bool:
        collected.append(collect())
        return True

    for number in range(3):
        lead, follow = pair.save(
            commit,
            lambda at=number: part(at),  # type: ignore[misc]
            steps=(number, number),
        )
        assert lead.result()
        assert follow.result()

    assert collected == [[part(number)] for number in range(3)]


def test_a_part_that_could_not_be_written_costs_the_checkpoint_for_all_and_the_next_one_works(pair: Pair) -> None:
    def fail() -> RankPart:
        raise OSError("no space left on device")

    reasons = []

    def commit(collect: CollectParts) -> bool:
        with pytest.raises(OSError, match="rank 1 could not write its part: no space left") as raised:
            collect()
        reasons.append(raised.value)
        return False

    lead, follow = pair.save(commit, fail, steps=(4, 4))
    assert (lead.result(), follow.result(), len(reasons)) == (False, False, 1)

    lead, follow = pair.save(commit_all, part, steps=(5, 5))
    assert (lead.result(), follow.result()) == (True, True)


def test_a_rank_that_says_nothing_is_not_waited_for_longer_than_its_time() -> None:
    pair = Pair(part_seconds=0.3)
    began = time.monotonic()

    assert not pair.leader.save(4, commit=commit_all, write_part=_unasked)

    assert time.monotonic() - began < 5
    assert not pair.follower.save(4, commit=_unasked, write_part=part)  # late: it is told at once
    lead, follow = pair.save(commit_all, part, steps=(5, 5))
    assert (lead.result(), follow.result()) == (True, True)


def test_parts_of_two_steps_make_no_checkpoint(pair: Pair) -> None:
    lead, follow = pair.save(commit_all, part, steps=(4, 5))

    assert (lead.result(), follow.result()) == (False, False)


def test_when_rank_0_is_fenced_all_are(pair: Pair) -> None:
    def commit(_collect: CollectParts) -> bool:
        raise FencedError("epoch 2 has started")

    for each in pair.save(commit, part, steps=(4, 4)):
        with pytest.raises(FencedError) as raised:
            each.result()
        assert (raised.value.code, raised.value.reason) == (EXIT_FENCED, "epoch 2 has started")


def test_all_resume_what_rank_0_has_found_each_with_its_own_part(pair: Pair, tmp_path: Path) -> None:
    def join(epoch: int | None) -> Checkpoints:
        return Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=epoch)

    first = join(1)
    written = rank_state.write_part(first, step=3, rank=1, part={"objects": {}, "loop": {"position": 11}})
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
    assert rank_state.with_own_part(state, of_follower, rank=1, world_size=2) == {
        "objects": {"model": 1},
        "loop": {"position": 11, "loader": {}},
    }


def test_a_damaged_part_of_any_rank_makes_the_checkpoint_invalid(tmp_path: Path) -> None:
    checkpoints = Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1)
    written = rank_state.write_part(checkpoints, step=3, rank=1, part={"loop": {}})
    common = checkpoints.write_data(step=3, chunks=[memoryview(b"0" * 8)], total_bytes=8)
    checkpoints.commit(step=3, cause="periodic", stored=common, state={}, parts=[written])
    damaged = tmp_path / written.stored["key"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")

    assert Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=2).newest_valid() is None


def test_a_rank_deletes_what_it_wrote_for_checkpoints_that_never_came_to_be(tmp_path: Path) -> None:
    leading, following = (Checkpoints(LocalStore(tmp_path), run_id="tiny", keep=2, epoch=1) for _ in range(2))
    failed, written = (rank_state.write_part(following, step=step, rank=1, part={"loop": {}}) for step in (3, 4))
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
