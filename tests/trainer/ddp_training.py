"""The tiny training in several processes, for torchrun. Variables say what happens in it:

STEP_SECONDS    how long a step takes at least
KILL            "rank:step": that process kills itself in the middle of that step, unless torchrun has restarted it
FULL            "rank:step:step": the disk is full for that process from the one step to the other
SHARDED         anything: the model is cut over the processes by FSDP2, instead of being in each of them
SAVE_AT         steps, by commas, in which rank 0 asks for a save
"""

import os
import random
import resource
import signal
import time

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional

import spotkeeper
from spotkeeper.trainer.checkpoint import FencedError
from tests.trainer.tiny_training import TOTAL, Noisy, Tied


class Plain(nn.Sequential):
    """Without a tied weight, which the parts of a sharded model cannot share; its layers do not divide evenly by 2."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.2), nn.Linear(7, 3))


def numbers(variable: str) -> list[int]:
    return [int(text) for text in os.environ.get(variable, "").replace(":", ",").split(",") if text]


def say(sentence: str) -> None:
    """Print a line whole and at once: two processes write to one pipe."""
    os.write(1, f"{sentence}\n".encode())


def main() -> None:
    torch.set_num_threads(1)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    say(f"rank {rank} is process {os.getpid()}")
    torch.manual_seed(rank)
    random.seed(rank)
    np.random.seed(rank)
    network: nn.Module = Plain() if "SHARDED" in os.environ else Tied()
    model: nn.Module = network
    if world_size > 1:
        distributed.init_process_group("gloo")
        if "SHARDED" in os.environ:
            from torch.distributed.fsdp import fully_shard  # here, because it loads as much again as torch

            for layer in network.children():
                fully_shard(layer)
            fully_shard(network)
        else:
            model = nn.parallel.DistributedDataParallel(network)
    opt = torch.optim.AdamW(network.parameters(), lr=0.01)
    run = spotkeeper.Run(model=network, opt=opt, per_rank=os.environ.get("PER_RANK", "").split())
    data = run.loader(Noisy(), batch_size=4, seed=7, drop_last=True)
    if run.step:
        say(f"rank {rank} of {world_size} resumes step {run.step}")
    for step, (inputs, targets) in run.steps(data, total=TOTAL):
        loss = functional.cross_entropy(model(inputs), targets)
        torch.autograd.backward(loss)
        if numbers("KILL") == [rank, step] and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        if numbers("FULL")[:1] == [rank]:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            is_full = step in range(*numbers("FULL")[1:])
            resource.setrlimit(resource.RLIMIT_FSIZE, (100 if is_full else most, most))
        opt.step()
        opt.zero_grad()
        if rank == 0 and step in numbers("SAVE_AT"):
            run.save_now(wait=True)
        run.log(loss=loss.detach())
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    say(f"rank {rank} is through")
    if world_size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except FencedError as error:
        say(f"rank {os.environ.get('RANK', '0')} is fenced: {error.code}")
        raise
