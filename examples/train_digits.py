"""Train a small convolutional network on scikit-learn's handwritten digits; kill it whenever you like.

    .venv/bin/python examples/train_digits.py --seconds-a-step 0.05  # Ctrl-C or kill -9, and again: it goes on

Checkpoints go to the folder `checkpoints`; under `spotkeeper submit` to the environment's bucket. The lines
that keep the run are those with `spotkeeper` or `run.` in them. Exit code 1 below 97 % test accuracy.

Several processes, of torchrun or of several nodes, train it together with `--drop-last`, which leaves out the last
batch of an epoch: its samples cannot be shared equally.
"""

import argparse
import os
import random
import sys
import time
from importlib import metadata

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import Dataset

import spotkeeper

DIGITS = "sklearn/datasets/data/digits.csv.gz"
"""A line for each image: its 64 pixels, from 0 to 16, and its label."""
NUM_TEST_IMAGES = 360
AFRESH = "To start afresh: another name (SPOTKEEPER_RUN_ID=digits-2), or remove the checkpoints (rm -r checkpoints)"


class Digits(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """8x8 images, each moved by a random part of a pixel and a little rotated whenever it is fetched."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        angle, right, down = (torch.rand(3) - 0.5) * torch.tensor([0.4, 0.3, 0.3])
        turn = torch.stack(
            [torch.stack([angle.cos(), -angle.sin(), right]), torch.stack([angle.sin(), angle.cos(), down])]
        )
        grid = functional.affine_grid(turn[None], [1, 1, 8, 8], align_corners=False)
        return functional.grid_sample(self.images[index][None], grid, align_corners=False)[0], self.labels[index]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def main() -> None:
    """Train to the end, then look at the images that were held back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=_positive, default=500, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--batch-size", type=_positive, default=128, help="images a step (default: %(default)s)")
    parser.add_argument(
        "--width", type=_positive, default=48, help="channels of the first layer (default: %(default)s)"
    )
    parser.add_argument("--num-workers", type=int, default=0, help="processes that load images (default: %(default)s)")
    parser.add_argument("--drop-last", action="store_true", help="leave out a last batch that is not full")
    parser.add_argument("--seconds-a-step", type=float, default=0.0, help="take at least so long, to be watched")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    torch.use_deterministic_algorithms(mode=True)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(options.seed)

    # Read here, because an attempt that imports scikit-learn starts much later.
    digits = np.loadtxt(str(metadata.distribution("scikit-learn").locate_file(DIGITS)), delimiter=",")
    images = torch.tensor(digits[:, :64].reshape(-1, 1, 8, 8), dtype=torch.float32) / 16
    labels = torch.tensor(digits[:, 64], dtype=torch.int64)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:NUM_TEST_IMAGES], order[NUM_TEST_IMAGES:]

    width = options.width
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width * 16, 10),
    )  # fmt: skip
    network: nn.Module = model
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        distributed.init_process_group("gloo")
        network = nn.parallel.DistributedDataParallel(model)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=3e-3, total_steps=options.steps)

    try:
        run = spotkeeper.Run(model=model, opt=opt, sched=sched, max_lost="5s")  # by default 15m; this is a short one
        data = run.loader(
            Digits(images[train], labels[train]),
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            drop_last=options.drop_last,
            seed=options.seed,
        )
        steps = run.steps(data, total=options.steps)
    except ValueError as error:
        sys.exit(f"train_digits.py: {error}")
    is_complete = run.step >= options.steps
    # The schedule, too, is that of the checkpoint: it has no learning rate for steps beyond its end.
    if options.steps > sched.total_steps:
        sys.exit(
            f"--steps must be at most {sched.total_steps}, for which this run's learning rates were laid out, got "
            f"{options.steps}. {AFRESH}"
        )
    began = time.monotonic()
    for _step, (batch, targets) in steps:
        loss = functional.cross_entropy(network(batch), targets)
        loss.backward()
        opt.step()
        sched.step()
        opt.zero_grad()
        run.log(loss=loss.detach())
        time.sleep(max(0.0, began + options.seconds_a_step - time.monotonic()))
        began = time.monotonic()

    model.eval()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean().item()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    print(f"test accuracy {accuracy:.1%} on {NUM_TEST_IMAGES} images")
    if is_complete:
        print(f"nothing was left to train. {AFRESH}")
    if accuracy < 0.97:
        sys.exit("below the 97 % that this network reaches when it trains to the end: see --steps")


if __name__ == "__main__":
    main()
