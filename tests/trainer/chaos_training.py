"""A training in a folder, for ckpt-chaos to kill: python -m tests.trainer.chaos_training FOLDER

ckpt-chaos arms the first process that it meets. That is to be the writer process, which makes the checkpoints: start
this one with CKPT_CHAOS_ARMED=1. A killed writer would be replaced: this process ends then, as when the host
goes.
"""

import hashlib
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import spotkeeper
from tests.trainer.tiny_training import Noisy, Tied

KILLED = 137


def end_with_the_writer() -> None:
    """End, with the code of what was killed, where a second writer would be started."""
    num_writers = count(1)

    def on_audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and "spotkeeper.trainer.writer" in str(arguments[1]) and next(num_writers) > 1:
            os._exit(KILLED)

    sys.addaudithook(on_audit)


class Momentum:
    """Gradient descent by hand: what torch.optim imports would make each of many processes last twice as long."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters = list(model.parameters())
        self._velocities = [torch.zeros_like(each) for each in self._parameters]

    def step(self) -> None:
        with torch.no_grad():
            for parameter, velocity in zip(self._parameters, self._velocities, strict=True):
                assert parameter.grad is not None
                parameter.sub_(velocity.mul_(0.9).add_(parameter.grad), alpha=0.01)
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"velocities": self._velocities}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._velocities = state_dict["velocities"]


def main(folder: Path) -> None:
    os.environ["SPOTKEEPER_URI"] = str(folder)
    os.environ.pop("CKPT_CHAOS_ARMED", None)
    end_with_the_writer()
    torch.manual_seed(1)
    model = Tied()
    momentum = Momentum(model)
    # ckpt-chaos compares what is there with what a training that nobody disturbed leaves, so nothing may be let go.
    run = spotkeeper.Run(model=model, momentum=momentum, keep=100)
    for step, (inputs, targets) in run.steps(run.loader(Noisy(), batch_size=4, seed=7), total=6):
        torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
        momentum.step()
        if step % 2:
            run.save_now(wait=True)
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    (folder / "result").write_text(hashlib.sha256(weights).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
