"""A training of a fraction of a second in which everything that could break exactness occurs.

Dropout and batch statistics, a tied weight, augmentation from all three generators, an epoch that ends in a
short batch, an optimizer with moments, a schedule with a Counter in its state.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset, get_worker_info

import spotkeeper

TOTAL = 16
BATCH_SIZE = 4
NUM_SAMPLES = 10


class Noisy(Dataset[Any]):
    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = random.random() + float(np.random.rand()) + torch.rand(6)
        return torch.full((6,), float(index)) / NUM_SAMPLES + 0.1 * noise, torch.tensor(index % 3)


class NoisyStream(IterableDataset[Any]):
    """The same samples as a stream: shards of unequal length, shuffled through a buffer that outlives each item."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        buffer: list[int] = []
        for index in range(NUM_SAMPLES + 4):
            if worker is not None and worker.id != (index % 3 == 2):
                continue
            buffer.append(index)
            if len(buffer) == 3:
                yield Noisy()[buffer.pop(random.randrange(3))]
        yield from (Noisy()[index] for index in buffer)


def by_hand(seed: int, epoch: int) -> list[int]:
    """Return an order as a user's function may: the generator begins anew at each call."""
    return random.Random(seed * 1000 + epoch).choices(range(NUM_SAMPLES), k=7)


DATASETS: Final[dict[str, tuple[Dataset[Any], dict[str, Any]]]] = {
    "shuffled": (Noisy(), {}),
    "weighted": (Noisy(), {"weights": [index + 1.0 for index in range(NUM_SAMPLES)]}),
    "sampler": (Noisy(), {"sampler": by_hand}),
    "stream": (NoisyStream(), {}),
}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = functional.dropout(self.norm(self.first(inputs)).relu(), 0.2, training=self.training)
        logits: torch.Tensor = self.head(self.second(hidden))
        return logits


def train(
    during_step: Callable[[int], None] = lambda _step: None,
    *,
    total: int = TOTAL,
    num_workers: int = 0,
    accumulate: int = 1,
    dataset: str = "shuffled",
    poisoned_from: int = TOTAL,
    at_beginning: Callable[[spotkeeper.Run, int], None] = lambda _run, _step: None,
    before_run: Callable[[nn.Module, torch.optim.Optimizer], None] = lambda _model, _opt: None,
) -> spotkeeper.Run:
    """Train to the end, calling `during_step` in the middle of each step, when the state is not whole.

    At the beginning of each, `at_beginning` is called. From step `poisoned_from` on the inputs are not numbers.
    `before_run` is called with what the run then restores. The optimizer steps once in `accumulate` steps of the run,
    on the sum of their gradients.
    """
    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)
    model = Tied()
    opt = torch.optim.AdamW(model.parameters(), lr=0.01)
    sched = torch.optim.lr_scheduler.MultiStepLR(opt, [5, 9])
    before_run(model, opt)
    run = spotkeeper.Run(model=model, opt=opt, sched=sched)
    samples, order = DATASETS[dataset]
    data = run.loader(samples, batch_size=BATCH_SIZE, num_workers=num_workers, seed=7, **order)
    opt.zero_grad()
    for step, (inputs, targets) in run.steps(data, total=total):
        at_beginning(run, step)
        if step >= poisoned_from:
            inputs.fill_(math.nan)
        loss = functional.cross_entropy(model(inputs + 0.01 * random.random()), targets)
        torch.autograd.backward(loss / accumulate)
        during_step(step)
        if (step + 1) % accumulate == 0:
            opt.step()
            sched.step()
            opt.zero_grad()
        run.log(loss=loss.detach(), noise=float(np.random.rand()))
    return run
