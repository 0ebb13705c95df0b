"""Processes that agree, played by threads: each has its own connections to one real store."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.trainer.rank_agreement import Decision, RankAgreement
from spotkeeper.trainer.rank_settings import RankSettings
from spotkeeper.trainer.rank_store import RankSilentError, RankStore
from tests.trainer.conftest import closed_port

SAVE = {"cause": "periodic"}
STOP = {"cause": "signal"}


@pytest.fixture
def settings() -> RankSettings:
    return RankSettings(
        rank=0,
        local_rank=0,
        world_size=2,
        store_host="127.0.0.1",
        store_port=closed_port(),
        has_store_of_launcher=False,
        restart=0,
    )


@pytest.fixture
def connect(settings: RankSettings) -> Iterator[Callable[[int], RankStore]]:
    def connect_as(rank: int) -> RankStore:
        return RankStore(replace(settings, rank=rank), "test")

    host = connect_as(0)
    yield connect_as
    del host


@pytest.fixture
def join(connect: Callable[[int], RankStore]) -> Iterator[Callable[..., RankAgreement]]:
    joined = []

    def join_as(
        rank: int, *, boundary: int = 0, world_size: int = 2, answer_seconds: float = 10, decision_seconds: float = 30
    ) -> RankAgreement:
        agreement = RankAgreement(
            lambda: connect(rank),
            rank=rank,
            world_size=world_size,
            boundary=boundary,
            answer_seconds=answer_seconds,
            decision_seconds=decision_seconds,
        )
        joined.append(agreement)
        return agreement

    yield join_as
    for each in joined:
        each.close()


class Crowd:
    """Ranks that train in lock-step: a barrier stands for the all-reduce in which each waits for all others."""

    def __init__(self, agreements: list[RankAgreement], total: int, barrier_timeout: float = 20) -> None:
        self.agreements = agreements
        self.total = total
        self.all_reduce = threading.Barrier(len(agreements), timeout=barrier_timeout)
        self.acted: list[list[tuple[int, list[dict[str, Any]]]]] = [[] for _ in agreements]

    def train(self, news: Callable[[int, int], dict[str, Any] | None]) -> None:
        with ThreadPoolExecutor(len(self.agreements)) as pool:
            for done in [pool.submit(self._train, rank, news) for rank in range(len(self.agreements))]:
                done.result()

    def _train(self, rank: int, news: Callable[[int, int], dict[str, Any] | None]) -> None:
        for boundary in range(1, self.total + 1):
            self.all_reduce.wait()
            heard = news(rank, boundary)
            while (decision := self.agreements[rank].at(boundary, heard)) is not None:
                heard = None
                assert decision.void is None
                assert decision.boundary == boundary
                self.acted[rank].append((boundary, decision.news))
                if STOP in decision.news:
                    return


@pytest.mark.parametrize("world_size", [2, 5])
def test_all_ranks_stop_at_one_boundary_whoever_hears_first(
    join: Callable[..., RankAgreement], world_size: int
) -> None:
    crowd = Crowd([join(rank, world_size=world_size) for rank in range(world_size)], total=60)

    crowd.train(lambda rank, boundary: STOP if rank == world_size - 1 and boundary == 20 else None)

    assert len({str(acted) for acted in crowd.acted}) == 1
    ((boundary, news),) = crowd.acted[0]
    assert boundary in (20, 21)
    assert news == [STOP]


def test_news_that_all_have_at_one_boundary_are_acted_on_there(join: Callable[..., RankAgreement]) -> None:
    crowd = Crowd([join(rank) for rank in range(2)], total=9)

    crowd.train(lambda _rank, boundary: SAVE if boundary == 4 else None)

    boundaries = [[boundary for boundary, _ in acted] for acted in crowd.acted]
    assert boundaries[0] == boundaries[1]
    assert set(boundaries[0]) == {4}


def test_many_rounds_each_are_acted_on_once_by_everybody(join: Callable[..., RankAgreement]) -> None:
    crowd = Crowd([join(rank, world_size=3) for rank in range(3)], total=150)

    crowd.train(lambda rank, boundary: {"cause": f"{rank}"} if boundary % 9 == 3 * rank else None)

    assert crowd.acted[0] == crowd.acted[1] == crowd.acted[2]
    assert {news["cause"] for _, heard in crowd.acted[0] for news in heard} == {"0", "1", "2"}
    assert len(crowd.acted[0]) >= 45


class Counted(RankStore):
    num_words = 0

    def set(self, key: str, value: Any) -> None:
        Counted.num_words += 1
        super().set(key, value)


def test_without_news_nothing_is_said_over_the_network(settings: RankSettings) -> None:
    agreement = RankAgreement(lambda: Counted(settings, "test"), rank=0, world_size=1, boundary=0)

    assert [agreement.at(boundary, None) for boundary in range(1, 1000)] == [None] * 999

    assert Counted.num_words == 0
    agreement.close()


def test_a_rank_that_does_not_answer_makes_the_round_void_in_time_and_later_ones_work(
    join: Callable[..., RankAgreement],
) -> None:
    first = join(0, answer_seconds=0.3)
    began = time.monotonic()
    decision = first.at(1, SAVE)

    assert decision == Decision(0, [], void="rank 1 did not answer in 0.3 s")
    assert time.monotonic() - began < 60, "a busy machine takes seconds"
    assert first.at(1, None) is None
    second = join(1, answer_seconds=0.3)  # it comes late, goes through the void round, and is there for the next
    late = second.at(1, None)
    while late is None:
        late = second.at(1, None)
    assert late.void is not None
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second.at, 2, SAVE)
        mine = first.at(2, SAVE)
        assert mine is not None
        assert mine.void is None
        assert other.result() == mine


def test_a_rank_that_never_hears_the_decision_goes_on_alone_and_knows_it(join: Callable[..., RankAgreement]) -> None:
    follower = join(1, decision_seconds=0.1)

    assert follower.at(1, SAVE) is None
    assert follower.lost is not None
    assert "round/0/decision was not said" in follower.lost
    assert follower.at(2, SAVE) is None


def test_closing_ends_the_thread_although_it_waits(join: Callable[..., RankAgreement]) -> None:
    agreement = join(0)
    agreement.close()
    agreement.close()

    assert "spotkeeper-ranks" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}


def test_what_is_not_said_is_not_waited_for_longer_than_asked(connect: Callable[[int], RankStore]) -> None:
    began = time.monotonic()
    with pytest.raises(RankSilentError, match=r"absent was not said within 0\.2 s"):
        connect(1).get("absent", 0.2)

    assert time.monotonic() - began < 60, "a busy machine takes seconds"
