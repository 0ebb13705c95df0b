"""A training that knows nothing of Spotkeeper and saves over its one file after each step, as many do.

python tests/trainer/plain_training.py FOLDER TOTAL
"""

import sys
from pathlib import Path

import torch

saved, total = Path(sys.argv[1]) / "last.pt", int(sys.argv[2])
saved.parent.mkdir(parents=True, exist_ok=True)
weight, momentum, begin = torch.ones(8, requires_grad=True), torch.zeros(8), 0
if saved.exists():
    state = torch.load(saved)
    weight, momentum, begin = state["weight"], state["momentum"], state["step"]
for step in range(begin, total):
    torch.autograd.backward((weight * step).square().mean())
    assert weight.grad is not None
    with torch.no_grad():
        momentum.mul_(0.9).add_(weight.grad)
        weight.sub_(0.001 * momentum)
    weight.grad = None
    torch.save({"step": step + 1, "weight": weight, "momentum": momentum}, saved)
