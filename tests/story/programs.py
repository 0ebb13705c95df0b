"""The programs that stories submit, and what they tell of their training."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

# Without torch.optim, whose first use imports as much again as torch; tests/trainer shows what becomes of optimizers.
LIBRARY_PROGRAM = """
    import time, torch, spotkeeper

    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    run = spotkeeper.Run(model=model)
    data = run.loader(torch.utils.data.TensorDataset(torch.ones(64, 4)), batch_size=8)
    for step, batch in run.steps(data, total={total}):
        model(batch[0]).mean().backward()
        with torch.no_grad():
            model.weight -= 0.01 * model.weight.grad
        model.zero_grad()
        {in_loop}
        time.sleep({seconds_a_step})
    print("after the loop")
"""


def library_program(*, total: int = 40, in_loop: str = "pass", seconds_a_step: float = 0.1) -> str:
    return LIBRARY_PROGRAM.format(total=total, in_loop=in_loop, seconds_a_step=seconds_a_step)


# A checkpoint is its manifest as far as the control plane can see; these programs need no library and start at once.
PLAIN_PROGRAM = """
    import os, time
    from urllib.request import Request, urlopen

    run_id, epoch = os.environ["SPOTKEEPER_RUN_ID"], int(os.environ["SPOTKEEPER_EPOCH"])
    bucket = os.environ["AWS_ENDPOINT_URL"] + "/" + os.environ["SPOTKEEPER_URI"].removeprefix("s3://")
    listed = urlopen(f"{{bucket}}?list-type=2&prefix=commit/{{run_id}}/").read()
    for step in range(listed.count(b"<Key>") + 1, {total} + 1):
        key = f"{{bucket}}/commit/{{run_id}}/{{epoch:06}}-{{step:012}}.json"
        headers = {{"If-None-Match": "*", "Content-Type": "application/json"}}
        urlopen(Request(key, b"{{}}", headers, method="PUT"))
        if step < {total}:
            time.sleep({seconds_a_step})
"""


def saves_each_step(*, total: int, seconds_a_step: float) -> str:
    return PLAIN_PROGRAM.format(total=total, seconds_a_step=seconds_a_step)


# Knows nothing of us: it saves into a folder by itself, now and then and when it is asked to stop.
SAVES_BY_ITSELF = """
    import json, pathlib, signal, sys, time

    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    folders = sorted(pathlib.Path("out").glob("checkpoint-*"))
    done = json.loads((folders[-1] / "state.json").read_text()) if folders else {{"step": 0, "total": 0}}
    print("begins at", done["step"], flush=True)
    for step in range(done["step"] + 1, {total} + 1):
        done = {{"step": step, "total": done["total"] + step}}
        if asked or step == {total}:
            folder = pathlib.Path(f"out/checkpoint-{{step:06}}")
            folder.mkdir(parents=True)
            (folder / "state.json").write_text(json.dumps(done))
        if asked:
            sys.exit(0)
        print("at", step, flush=True)
        time.sleep({seconds_a_step})
    print("total", done["total"], flush=True)
"""


def saves_by_itself(*, total: int, seconds_a_step: float) -> str:
    return SAVES_BY_ITSELF.format(total=total, seconds_a_step=seconds_a_step)


HANGS_WHEN_IT_HAS_SAVED = saves_each_step(total=100, seconds_a_step=600)
"""Each attempt saves once."""
GOES_ON_WHEN_TOLD_TO_STOP = f"""
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN){HANGS_WHEN_IT_HAS_SAVED}"""


TRAINING = """
    import os, time, torch, spotkeeper

    epoch = int(os.environ["SPOTKEEPER_EPOCH"])
    run = spotkeeper.Run(model=torch.nn.Linear(4, 1), max_lost=1)
    data = run.loader(torch.utils.data.TensorDataset(torch.ones(64, 4)), batch_size=8)
    first = run.step
    for step, _ in run.steps(data, total=100_000):
        began = time.time()
        time.sleep(0.05)
        print("trained", epoch, step, began, time.time(), flush=True)
        if epoch >= {last_epoch} and step >= first + 10:
            run.finish()
"""


def trains_until(*, last_epoch: int) -> str:
    """Return a program that trains on and on, saves every second, and finishes ten steps after it began this epoch."""
    return TRAINING.format(last_epoch=last_epoch)


@dataclass(frozen=True)
class Trained:
    """A step, as the program itself tells of it."""

    epoch: int
    step: int
    began: float
    ended: float

    @classmethod
    def all_in(cls, output: str) -> list[Self]:
        told = [line.split()[1:] for line in output.splitlines() if line.startswith("trained ")]
        return [cls(int(epoch), int(step), float(began), float(ended)) for epoch, step, began, ended in told]


def overlaps(steps: list[Trained]) -> list[tuple[Trained, Trained]]:
    """Return the steps that were trained at the same time."""
    ordered = sorted(steps, key=lambda step: step.began)
    return [(before, after) for before, after in pairwise(ordered) if after.began < before.ended]
