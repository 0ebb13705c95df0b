import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset

from spotkeeper.trainer import rng
from spotkeeper.trainer.loader import Loader
from tests.trainer.tiny_training import NUM_SAMPLES, Noisy


def make(dataset: Dataset[Any] | None = None, **settings: Any) -> Loader:
    defaults: dict[str, Any] = {
        "batch_size": 4,
        "shuffle": True,
        "num_workers": 0,
        "seed": 7,
        "drop_last": False,
        "collate_fn": None,
    }
    return Loader(dataset or Noisy(), **{**defaults, **settings})


class Indices(Dataset[int]):
    def __init__(self) -> None:
        self.fetched: list[int] = []

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> int:
        self.fetched.append(index)
        return index


def equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_loader_continues_anywhere_as_if_it_had_not_stopped(num_workers: int, start: int) -> None:
    whole = list(make().batches(0, 9))

    rest = list(make(num_workers=num_workers).batches(start, 9 - start))

    assert equal(rest, whole[start:])


def test_every_epoch_has_each_sample_once_in_an_order_of_its_own() -> None:
    loader = make(Indices())
    batches = [batch.tolist() for batch in loader.batches(0, 2 * len(loader))]
    first, second = list(chain(*batches[:3])), list(chain(*batches[3:]))

    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert sorted(first) == sorted(second) == list(range(NUM_SAMPLES))
    assert first != second
    assert first != list(range(NUM_SAMPLES))


def test_a_sample_is_augmented_anew_in_every_epoch() -> None:
    first, second = make(shuffle=False, drop_last=True, batch_size=NUM_SAMPLES).batches(0, 2)

    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_without_shuffling_the_order_is_that_of_the_dataset() -> None:
    batches = list(make(Indices(), shuffle=False, drop_last=True).batches(0, 3))

    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_another_seed_is_another_order() -> None:
    orders = [[batch.tolist() for batch in make(Indices(), seed=seed).batches(0, 3)] for seed in (1, 2)]

    assert orders[0] != orders[1]


def test_what_was_consumed_before_is_not_loaded_again() -> None:
    dataset = Indices()

    next(iter(make(dataset).batches(1, 1)))

    assert len(dataset.fetched) == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_generators_of_the_training_alone(num_workers: int) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = (random.random(), float(np.random.rand()), torch.rand(1).item())
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    list(islice(make(num_workers=num_workers).batches(0, 5), 5))

    assert (random.random(), float(np.random.rand()), torch.rand(1).item()) == expected


def test_a_collate_function_that_draws_is_as_exact_as_the_samples() -> None:
    def mix(samples: list[Any]) -> list[torch.Tensor]:
        return [torch.stack([image for image, _ in samples]) * torch.rand(1) * random.random()]

    assert equal(list(make(collate_fn=mix).batches(2, 3)), list(make(collate_fn=mix).batches(0, 5))[2:])


def test_what_a_collate_function_draws_does_not_depend_on_what_its_samples_drew() -> None:
    def draw(_samples: list[Any]) -> list[float]:
        return [random.random(), float(np.random.rand()), torch.rand(1).item()]

    drawing, silent = make(Noisy(), collate_fn=draw), make(Indices(), collate_fn=draw)

    assert list(drawing.batches(0, 5)) == list(silent.batches(0, 5))


def test_restored_generators_continue_where_they_were_captured() -> None:
    state = rng.capture()
    expected = (random.random(), float(np.random.rand()), torch.rand(2).tolist())

    rng.restore(state)

    assert (random.random(), float(np.random.rand()), torch.rand(2).tolist()) == expected


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class WithGenerator(Noisy):
    def __init__(self, generator: object) -> None:
        self.generator = generator


def drawing_from(generator: random.Random) -> Callable[[float], float]:
    return lambda value: value + generator.random()


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        (WithGenerator(np.random.default_rng(0)), "dataset.generator is"),
        (WithGenerator(np.random.RandomState(0)), "dataset.generator is"),
        (WithGenerator(random.Random(0)), "dataset.generator is"),
        (WithGenerator(torch.Generator()), "dataset.generator is"),
        (WithGenerator([0, {"transform": random.Random(0)}]), r"dataset.generator\[1\]\['transform'\] is"),
        (WithGenerator(random.Random(0).uniform), "dataset.generator.__self__ is"),
        (WithGenerator(partial(int, random.Random(0))), r"dataset.generator.args\[0\] is"),
        (WithGenerator(drawing_from(random.Random(0))), r"dataset.generator \(its generator\) is"),
        (Subset(WithGenerator(random.Random(0)), [1, 2]), "dataset.dataset.generator is"),
    ],
    ids=["numpy", "old numpy", "python", "torch", "nested", "method", "partial", "closure", "subset"],
)
def test_a_dataset_with_a_generator_of_its_own_is_refused_with_what_to_do(dataset: Dataset[Any], path: str) -> None:
    with pytest.raises(ValueError, match=f"{path} a random generator of its own.*draw from the global generators"):
        make(dataset, batch_size=1)


def test_a_collate_function_with_a_generator_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"collate_fn \(its generator\) is a random generator"):
        make(collate_fn=drawing_from(random.Random(0)))


@pytest.mark.parametrize("harmless", [random.uniform, [0] * 100_000, torch.rand(3), np.random, Noisy])
def test_what_draws_from_the_global_generators_or_not_at_all_is_accepted(harmless: object) -> None:
    assert len(make(WithGenerator(harmless))) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": Stream()}, "needs a dataset with __len__"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"num_workers": -1}, "num_workers must be 0"),
        ({"batch_size": 11, "drop_last": True}, "10 samples, too few for one batch of 11"),
    ],
)
def test_a_loader_that_could_not_be_resumed_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
