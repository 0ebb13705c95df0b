"""A training that does nothing but last: 400 steps of 20 ms, of which the fourth may be given another length."""

import os
import sys
import time

from torch import nn

import spotkeeper
from tests.trainer.tiny_training import Noisy

run = spotkeeper.Run(model=nn.Linear(2, 2))
data = run.loader(Noisy(), batch_size=4, num_workers=int(os.environ.get("NUM_WORKERS", "0")))
for step, _ in run.steps(data, total=400):
    time.sleep(float(sys.argv[1]) if step == 3 and sys.argv[1:] else 0.02)
print("this is after the loop", flush=True)
