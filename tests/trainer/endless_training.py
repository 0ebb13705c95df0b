"""A training that goes on until it is stopped, and stays in one moment of its work until the test lets it go on.

python -m tests.trainer.endless_training saves      begins a save at every step boundary at which none is under way
python -m tests.trainer.endless_training restore    says "busy" while it is being restored, and waits for a line
python -m tests.trainer.endless_training 3          evaluates in step 3 until it is to yield, says so, and waits
"""

import sys
from typing import Any

import torch
from torch import nn

import spotkeeper
from tests.trainer.tiny_training import Noisy

MOMENT = sys.argv[1]


class Watched(nn.Linear):
    """A model whose restore, where that is the moment, lasts until the test has written a line."""

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        if MOMENT == "restore":
            print("busy", flush=True)
            sys.stdin.readline()
        return super().load_state_dict(*arguments, **options)


model = Watched(6, 256)
run = spotkeeper.Run(model=model)  # without an optimizer, whose import would take longer than all the rest
data = run.loader(Noisy(), batch_size=4)
for step, (inputs, _) in run.steps(data, total=10_000_000):
    if str(step) == MOMENT:
        print("busy", flush=True)
        with torch.no_grad():
            while not run.yield_requested:
                model(inputs)
        print("asked", flush=True)
        sys.stdin.readline()
    if MOMENT == "saves":
        run.save_now()
    run.log(loss=model(inputs).square().mean().detach())
