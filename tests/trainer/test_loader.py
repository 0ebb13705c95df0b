import random
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, RandomSampler, Subset

from spotkeeper.trainer import rng
from spotkeeper.trainer.indexed_loader import IndexedLoader
from spotkeeper.trainer.loader import Share
from spotkeeper.trainer.loader_choice import make_loader
from tests.trainer.tiny_training import NUM_SAMPLES, Noisy


def make(dataset: Dataset[Any] | None = None, **settings: Any) -> IndexedLoader:
    loader = make_loader(dataset or Noisy(), **{"batch_size": 4, "seed": 7, **settings})
    assert isinstance(loader, IndexedLoader)
    return loader


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


WEIGHTS = [0.0, 1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_samples_are_drawn_in_proportion_to_their_weights_and_anew_in_every_epoch() -> None:
    loader = make(Indices(), weights=WEIGHTS)
    epochs = [tuple(chain(*(batch.tolist() for batch in loader.batches(3 * epoch, 3)))) for epoch in range(200)]

    drawn = list(chain(*epochs))
    assert set(drawn) == {1, 3}
    assert 0.70 < drawn.count(3) / len(drawn) < 0.80
    assert len(set(epochs)) > 100


def test_a_sample_that_is_drawn_twice_in_an_epoch_is_augmented_twice_differently() -> None:
    (inputs, targets), *_ = make(weights=[0, 1] + 8 * [0], batch_size=NUM_SAMPLES).batches(0, 1)

    assert targets.tolist() == [1] * NUM_SAMPLES
    assert len({tuple(row.tolist()) for row in inputs}) == NUM_SAMPLES


def test_a_sampler_s_order_is_followed() -> None:
    loader = make(Indices(), sampler=lambda seed, epoch: [seed, epoch, epoch, 0, 9, epoch])

    assert [batch.tolist() for batch in loader.batches(1, 3)] == [[9, 0], [7, 1, 1, 0], [9, 1]]


def test_a_sampler_that_draws_from_the_global_generators_is_as_exact_as_any() -> None:
    def draw(_seed: int, _epoch: int) -> list[int]:
        return random.sample(range(NUM_SAMPLES), 6)

    loader = make(Indices(), sampler=draw)
    random.seed(5)
    whole = [batch.tolist() for batch in loader.batches(0, 6)]

    assert [batch.tolist() for batch in make(Indices(), sampler=draw).batches(3, 3)] == whole[3:]


class Remembering:
    """An order that depends on how often it was asked for."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, seed: int, epoch: int) -> list[int]:
        self.num_calls += 1
        return [(seed + epoch + self.num_calls) % NUM_SAMPLES]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1.0]}, r"one number for each of the 10 samples; got shape \[1\]"),
        ({"weights": [0.0] * 10}, "must be finite, none below 0, and not all 0"),
        ({"weights": [1.0] * 9 + [float("nan")]}, "must be finite"),
        ({"weights": [1.0] * 10, "shuffle": True}, "give one: shuffle, weights"),
        ({"sampler": RandomSampler(range(10))}, r"sampler=RandomSampler: .*function of \(seed, epoch\)"),
        ({"sampler": [1, 2]}, "sampler=list: "),
        ({"sampler": Remembering()}, "another order when it was asked for epoch 0 again"),
        ({"sampler": lambda _seed, _epoch: [10]}, "indices from 0 to 9"),
        ({"sampler": lambda _seed, _epoch: [[1]]}, "flat list"),
        ({"sampler": partial(int, random.Random(0))}, r"sampler.args\[0\] is a random generator"),
    ],
)
def test_an_order_that_could_not_be_resumed_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_sampler_whose_epochs_differ_in_length_is_refused_where_they_do() -> None:
    loader = make(Indices(), sampler=lambda _seed, epoch: [1] * (4 + epoch))

    with pytest.raises(ValueError, match="5 indices for epoch 1 and 4 for epoch 0"):
        list(loader.batches(0, 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"weights": [1.0] * 10}, {"weights": [2.0] * 10}),
        ({"weights": [1.0] * 10}, {}),
        ({"sampler": lambda _seed, _epoch: [1]}, {"sampler": lambda _seed, _epoch: [2]}),
        ({"shuffle": False}, {}),
    ],
)
def test_another_order_is_told_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert make(batch_size=1, **one).fingerprint() != make(batch_size=1, **other).fingerprint()


@pytest.mark.parametrize("settings", [{}, {"weights": [1.0] * 10}])
def test_processes_that_share_batches_load_together_what_one_loads_alone(settings: dict[str, Any]) -> None:
    alone = make(**settings)
    shares = [make(share=Share(rank, 2), **settings) for rank in range(2)]

    for whole, *parts in zip(alone.batches(2, 4), *(each.batches(2, 4) for each in shares), strict=True):
        assert equal([whole], [[torch.cat(column) for column in zip(*parts, strict=True)]])
    assert shares[0].fingerprint() == alone.fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 5}, "multiple of their number, 2; got 5"),
        ({"sampler": lambda _seed, _epoch: [1] * 7}, "the last batch of an epoch has 3 samples, which 2 processes"),
    ],
)
def test_batches_that_processes_cannot_share_equally_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(share=Share(0, 2), **settings)


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
        ({"dataset": object()}, r"needs a dataset with __len__ and __getitem__, or one with an __iter__.*got object"),
        ({"dataset": iter([1, 2])}, "__iter__ that begins anew each time; got list_iterator"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"num_workers": -1}, "num_workers must be 0"),
        ({"batch_size": 11, "drop_last": True}, "10 samples, too few for one batch of 11"),
    ],
)
def test_a_loader_that_could_not_be_resumed_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
