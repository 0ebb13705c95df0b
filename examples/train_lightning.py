"""Train a small network with Lightning's Trainer, which saves by itself: no line here is Spotkeeper's.

    pip install lightning
    spotkeeper-exec --checkpoint-folder out --notice-signal USR1 -- python examples/train_lightning.py
    spotkeeper submit --checkpoint-folder out --notice-signal USR1 -- python examples/train_lightning.py

Kill it, and start it again: it goes on. Lightning saves neither random numbers nor the place in an epoch, so this
program saves at the ends of short epochs, in which the order of the samples depends on nothing but the epoch's number:
then a resumed training equals one that nobody disturbed. USR1 lets it end after its epoch; TERM, in the middle of it.
"""

import argparse
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

NUM_POINTS = 640
BATCH_SIZE = 32


class Spirals(lightning.LightningModule):
    """Tells two spirals apart."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        points, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self.layers(points).squeeze(1), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class ByEpoch(Sampler[int]):
    """Another order in each epoch, the same after any restart; Lightning calls `set_epoch`."""

    def __init__(self) -> None:
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return NUM_POINTS

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(NUM_POINTS, generator=torch.Generator().manual_seed(self._epoch)).tolist())


class EndOnSignal(Callback):
    """Ends the training after the epoch in which SIGUSR1 has come; makes steps longer."""

    def __init__(self, seconds_a_step: float) -> None:
        self._is_told = False
        self._seconds_a_step = seconds_a_step
        signal.signal(signal.SIGUSR1, self._hear)

    def _hear(self, *_: object) -> None:
        self._is_told = True

    def on_train_batch_end(self, *_: object) -> None:
        """Wait."""
        time.sleep(self._seconds_a_step)

    def on_train_epoch_end(self, trainer: Any, _module: Any) -> None:
        """Say so to the trainer."""
        trainer.should_stop |= self._is_told


def spirals() -> TensorDataset:
    """Return points of two spirals, and which one each belongs to."""
    labels = (torch.arange(NUM_POINTS) % 2).float()
    turn = torch.linspace(0.5, 3, NUM_POINTS) * torch.pi
    return TensorDataset(torch.stack([turn.cos(), turn.sin()], 1) * (turn * (2 * labels - 1))[:, None], labels)


def main() -> None:
    """Train to the end, from the newest checkpoint in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out"), help="for checkpoints (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--seconds-a-step", type=float, default=0.0, help="take so much longer, to be watched")
    options = parser.parse_args()
    lightning.seed_everything(0)
    torch.set_num_threads(1)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        default_root_dir=options.folder,
        callbacks=[
            ModelCheckpoint(options.folder, filename="{epoch:05d}", save_on_train_epoch_end=True),
            EndOnSignal(options.seconds_a_step),
        ],
        logger=False,
        enable_progress_bar=False,
    )
    data = DataLoader(spirals(), batch_size=BATCH_SIZE, sampler=ByEpoch())
    newest = max(options.folder.glob("*.ckpt"), default=None)
    trainer.fit(Spirals(), data, ckpt_path=newest)
    print(f"{trainer.current_epoch} of {options.epochs} epochs are done", flush=True)


if __name__ == "__main__":
    main()
