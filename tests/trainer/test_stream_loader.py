import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset, get_worker_info

from spotkeeper.trainer.loader import Loader, Share
from spotkeeper.trainer.loader_choice import make_loader
from tests.trainer.tiny_training import NoisyStream


class Numbers(IterableDataset[int]):
    """0, 1, 2, …, of which each worker yields every so manieth; the first worker gets one item only."""

    def __init__(self, num_items: int = 11) -> None:
        self.num_items = num_items
        self.epochs: list[int] = []
        self.num_read = 0

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        for number in range(self.num_items):
            if worker is None or (worker.id == 0) == (number == 0):
                self.num_read += 1
                yield number


def make(dataset: Any = None, **settings: Any) -> Loader:
    return make_loader(dataset or NoisyStream(), **{"batch_size": 2, "seed": 7, **settings})


def equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_continues_anywhere_as_if_it_had_not_stopped_any_number_of_times(num_workers: int) -> None:
    whole = list(make(num_workers=num_workers).batches(0, 17))
    resumed: list[Any] = []
    position = None
    for count in (1, 2, 1, 3, 4, 6):
        loader = make(num_workers=num_workers)
        if position is not None:
            loader.restore(position)
        resumed += loader.batches(len(resumed), count)
        position = loader.position()

    assert equal(resumed, whole)
    assert position is not None
    assert position["epoch"] == 2


def test_a_worker_whose_shard_is_short_is_left_out_from_then_on_before_and_after_a_resume() -> None:
    whole = [batch.tolist() for batch in make(Numbers(), num_workers=2).batches(0, 6)]

    assert whole == [[0], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    for num_taken in range(1, 6):
        loader = make(Numbers(), num_workers=2)
        loader.restore({"epoch": 0, "num_taken": num_taken})
        assert [batch.tolist() for batch in loader.batches(num_taken, 6 - num_taken)] == whole[num_taken:]


def test_a_stream_is_told_its_epoch_and_begins_anew_in_each() -> None:
    dataset = Numbers(3)

    batches = [batch.tolist() for batch in make(dataset).batches(0, 5)]

    assert batches == [[0, 1], [2], [0, 1], [2], [0, 1]]
    assert dataset.epochs == [0, 1, 2]


def test_a_short_batch_can_be_left_out() -> None:
    batches = [batch.tolist() for batch in make(Numbers(3), drop_last=True).batches(0, 2)]

    assert batches == [[0, 1], [0, 1]]


def test_a_resume_reads_the_current_epoch_again_and_no_earlier_one() -> None:
    dataset = Numbers()
    loader = make(dataset)
    loader.restore({"epoch": 5, "num_taken": 3})

    next(iter(loader.batches(33, 1)))

    assert dataset.num_read == 8
    assert dataset.epochs == [5]


def test_a_stream_is_augmented_anew_in_every_epoch_and_in_every_process() -> None:
    (first, _), (_, _), (second, _) = make(batch_size=12).batches(0, 3)
    (other, _), *_ = make(batch_size=24, share=Share(1, 2)).batches(0, 1)

    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_a_stream_leaves_the_generators_of_the_training_alone(num_workers: int) -> None:
    random.seed(1)
    torch.manual_seed(1)
    expected = (random.random(), torch.rand(1).item())
    random.seed(1)
    torch.manual_seed(1)

    for _ in make(num_workers=num_workers).batches(0, 4):
        pass

    assert (random.random(), torch.rand(1).item()) == expected


def test_a_collate_function_that_draws_is_as_exact_as_the_items() -> None:
    def mix(items: list[Any]) -> list[torch.Tensor]:
        return [torch.stack([item for item, _ in items]) * random.random()]

    whole = list(make(collate_fn=mix).batches(0, 5))
    loader = make(collate_fn=mix)
    loader.restore({"epoch": 0, "num_taken": 2})

    assert equal(list(loader.batches(2, 3)), whole[2:])


def test_the_number_of_workers_and_of_processes_belongs_to_the_position() -> None:
    prints = [make().fingerprint(), make(num_workers=2).fingerprint(), make(share=Share(0, 2)).fingerprint()]

    assert all(one != other for number, one in enumerate(prints) for other in prints[:number])


def test_a_stream_that_has_become_shorter_is_refused() -> None:
    loader = make(Numbers(3))
    loader.restore({"epoch": 0, "num_taken": 4})

    with pytest.raises(ValueError, match="yielded 2 batches in epoch 0, of which the checkpoint counts 4"):
        list(loader.batches(4, 1))


def test_a_stream_without_a_batch_is_refused_instead_of_read_for_ever() -> None:
    with pytest.raises(ValueError, match="no batch of 2 in epoch 0"):
        list(make(Numbers(1), drop_last=True).batches(0, 1))


class WithGenerator(NoisyStream):
    def __init__(self) -> None:
        self.rng = random.Random(0)


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (WithGenerator(), {}, "dataset.rng is a random generator of its own"),
        (NoisyStream(), {"shuffle": True}, "NoisyStream is a stream, whose order is its own"),
        (NoisyStream(), {"weights": [1.0]}, "leave shuffle, weights and sampler out"),
        (NoisyStream(), {"batch_size": 3, "share": Share(1, 2)}, "multiple of their number, 2; got 3"),
    ],
)
def test_a_stream_that_could_not_be_resumed_is_refused(dataset: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(dataset, **settings)
