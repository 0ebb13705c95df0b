"""The tiny training, with evaluations that draw random numbers, held up for ever in a moment of its work.

python -m tests.trainer.long_steps first            in the middle of the first step
python -m tests.trainer.long_steps in-c             there too, in a call of C code that no signal interrupts
python -m tests.trainer.long_steps warm-up          in the middle of the second step
python -m tests.trainer.long_steps evaluation       in the evaluation of step 10
python -m tests.trainer.long_steps none             nowhere
"""

import ctypes
import os
import sys
import threading

import torch

import spotkeeper
from tests.trainer.tiny_training import train

MOMENT = sys.argv[1]


def hold_up() -> None:
    print("busy", flush=True)
    if MOMENT == "in-c":
        mutex = ctypes.create_string_buffer(64)
        lock = ctypes.CDLL(None).pthread_mutex_lock
        lock(mutex)
        lock(mutex)
    threading.Event().wait()


def evaluate(run: spotkeeper.Run, step: int) -> None:
    if step % 5 == 0:
        with run.evaluation():
            torch.rand(step + 1)
            if (step, MOMENT) == (10, "evaluation"):
                hold_up()


def during_step(step: int) -> None:
    if step == 0 and MOMENT in {"first", "in-c"}:
        hold_up()
    if step == 1 and MOMENT == "warm-up":
        hold_up()


train(during_step, at_beginning=evaluate, dataset=os.environ.get("DATASET", "shuffled"))
