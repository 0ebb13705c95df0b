"""Train a small language model with Hugging Face's Trainer, which saves by itself: no line here is Spotkeeper's.

    pip install transformers accelerate
    spotkeeper-exec --checkpoint-folder out -- python examples/train_transformers.py
    spotkeeper submit --checkpoint-folder out -- python examples/train_transformers.py

Kill it, and start it again: it goes on. What a program has to do for that: save every few minutes, go on from what it
finds in the folder, and save once more when it is told to end. To fine-tune a model of yours, load that with
`from_pretrained` where this one makes one of random numbers; it learns the bytes of Python's own manual.
"""

import argparse
import signal
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

CONTEXT = 64


class Manual(Dataset[dict[str, torch.Tensor]]):
    """The manual in pieces, each byte a token."""

    def __init__(self) -> None:
        text = "\n".join(topics.values()).encode()
        self.tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()

    def __len__(self) -> int:
        return len(self.tokens) // CONTEXT

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        piece = self.tokens[index * CONTEXT : (index + 1) * CONTEXT]
        return {"input_ids": piece, "labels": piece}


class SaveOnSigterm(TrainerCallback):
    """Saves and stops at the end of the step in which SIGTERM has come; makes steps longer."""

    def __init__(self, seconds_a_step: float) -> None:
        self.is_told = False
        self._seconds_a_step = seconds_a_step
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, *_: object) -> None:
        self.is_told = True

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
        """Ask the trainer to."""
        time.sleep(self._seconds_a_step)
        if self.is_told:
            control.should_save = control.should_training_stop = True
        return control


def main() -> None:
    """Train to the end, from the newest checkpoint in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out"), help="for checkpoints (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--save-steps", type=int, default=20, help="between two checkpoints (default: %(default)s)")
    parser.add_argument("--seconds-a-step", type=float, default=0.0, help="take so much longer, to be watched")
    options = parser.parse_args()
    set_seed(0)
    torch.set_num_threads(1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4))
    trainer = Trainer(
        model=model,
        train_dataset=Manual(),
        callbacks=[SaveOnSigterm(options.seconds_a_step)],
        args=TrainingArguments(
            output_dir=str(options.folder),
            max_steps=options.steps,
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            save_steps=options.save_steps,
            save_total_limit=2,
            logging_steps=10,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
        ),
    )
    newest = get_last_checkpoint(str(options.folder)) if options.folder.is_dir() else None
    trainer.train(resume_from_checkpoint=newest)
    print(f"{trainer.state.global_step} of {options.steps} steps are done", flush=True)


if __name__ == "__main__":
    main()
