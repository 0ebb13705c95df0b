"""The training that is saved: blocks of a transformer's feed-forward part, with AdamW."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

NUM_BLOCKS = 10
BYTES_PER_PARAMETER = 12
"""The parameter and AdamW's two moments, in float32; gradients are not saved."""
BATCH_SIZES = {True: 64, False: 32}
"""Of models below half a gigabyte, and of larger ones: steps of a tenth of a second to one, on one core."""


class Block(nn.Module):
    """Norm, up, down, and the way around."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        hidden: torch.Tensor = self.down(torch.relu(self.up(self.norm(inputs))))
        return inputs + hidden


class Training:
    """A model, its optimizer, and steps whose waits for a snapshot are timed."""

    def __init__(self, size_mb: int) -> None:
        torch.manual_seed(0)
        width = round((size_mb * 1e6 / BYTES_PER_PARAMETER / NUM_BLOCKS / 8) ** 0.5 / 8) * 8
        self.model = nn.Sequential(*(Block(width) for _ in range(NUM_BLOCKS)))
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self._batch = torch.randn(BATCH_SIZES[size_mb < 500], width)
        self.join_seconds = 0.0
        """What optimizer hooks that were registered since took before the last step."""
        self._before_hooks = 0.0
        self.opt.register_step_pre_hook(self._start_of_hooks)

    def time_hooks_registered_until_now(self) -> None:
        """Measure what a method's own hooks take: a snapshot that is joined there stalls the training."""
        self.opt.register_step_pre_hook(self._end_of_hooks)

    def step(self) -> None:
        """Train one step."""
        self.model(self._batch).square().mean().backward()
        self.opt.step()
        self.opt.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything that a checkpoint holds, by name, in the memory that the training uses."""
        found = dict(self.model.state_dict())
        for index, state in self.opt.state_dict()["state"].items():
            found |= {f"opt.{index}.{name}": value for name, value in state.items()}
        return found

    def num_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def checksum(self) -> int:
        """Return a number that changes with the state."""
        with torch.no_grad():
            return hash(tuple(float(tensor.double().sum()) for tensor in self.tensors().values()))

    def spoil(self) -> None:
        """Change every tensor, so that a restore that does nothing is found out."""
        with torch.no_grad():
            for tensor in self.tensors().values():
                tensor.add_(1)

    def _start_of_hooks(self, *_: Any) -> None:
        self._before_hooks = time.perf_counter()

    def _end_of_hooks(self, *_: Any) -> None:
        self.join_seconds = time.perf_counter() - self._before_hooks


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
