"""The random number generators that a training program draws from, as a whole."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """Return the state of Python's, numpy's and torch's global generators, those of all GPUs included."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(state: dict[str, Any]) -> None:
    """Put back what `capture` returned. A machine with fewer GPUs takes the states of those it has."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, gpu_state in enumerate(state["cuda"][:num_gpus]):
        torch.cuda.set_rng_state(gpu_state, device)


def derived(*counters: int) -> dict[str, Any]:
    """Return a state for `restore` that depends on nothing but the counters; those of GPUs are seeded alike."""
    seed = derive_seed(*counters)
    with isolated_cpu():
        seed_cpu(seed)
        state = {**capture(), "cuda": []}
    if torch.cuda.is_available():
        generators = [torch.Generator(f"cuda:{device}") for device in range(torch.cuda.device_count())]
        state["cuda"] = [generator.manual_seed(seed).get_state() for generator in generators]
    return state


def derive_seed(*counters: int) -> int:
    """Return a 63-bit seed that depends on nothing but the counters."""
    digest = hashlib.blake2b(repr(counters).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_cpu(seed: int) -> None:
    """Seed the generators that a dataset may draw from, in this process. Those of GPUs stay as they are."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


@contextmanager
def isolated_cpu() -> Iterator[None]:
    """Let the body seed and draw as it likes; the generators afterwards continue where they were."""
    python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_cpu)
