"""Runs the tiny training in forks of one process, so that a hundred killed attempts cost one import of torch.

    python -m tests.trainer.kill_driver step 3 7 …         kill attempt by attempt, in the middle of these steps
    python -m tests.trainer.kill_driver restore 5          train so many steps, then kill in the middle of six restores
    python -m tests.trainer.kill_driver file               kill the process that trains at each of its file operations
    python -m tests.trainer.kill_driver writer             kill the writer process at each of its file operations
    python -m tests.trainer.kill_driver both               kill both processes there
    python -m tests.trainer.kill_driver none               do not kill

Each way, the last attempt runs to the end. Prints the number of killed attempts.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from tests.trainer.tiny_training import TOTAL, train

PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""
FILE_OPERATIONS = {"open", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


def attempt(body: Callable[[], object]) -> bool:
    """Run `body` in a fork; tell whether it was killed by SIGKILL. Any other failure ends this program."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    end_orphans()
    if status not in (0, -signal.SIGKILL):
        sys.exit(f"an attempt ended with {status}")
    return status != 0


def adopt_orphans() -> None:
    """Become the parent of what a killed attempt leaves behind."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_orphans() -> None:
    """Kill the forks of an attempt that has ended: a loader's workers, not the writer, which is to survive it.

    A worker ends once its parent is another than at its start. One that starts after its parent was killed never
    does, and whoever reads this program's output would wait for it.
    """
    own = Path("/proc/self/cmdline").read_bytes()
    children = [
        child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    ]
    for child in children:
        if Path(f"/proc/{child}/cmdline").read_bytes() == own:  # a process that has ended has none
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)


def warm_up() -> None:
    """Load what torch loads only when it is first used, here and not in every fork."""
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.ones(2))
    torch.autograd.backward(weight.sum())
    torch.optim.AdamW([weight]).step()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_steps(steps: list[int], **options: Any) -> int:
    for kill_at in steps:
        assert attempt(lambda at=kill_at: train(lambda step: die() if step == at else None, **options))  # type: ignore[misc]
    return len(steps)


def kill_in_restores() -> int:
    """Kill attempts that have restored the model alone, then such as are about to load the optimizer, or have."""

    def after_model(model: torch.nn.Module, _opt: torch.optim.Optimizer) -> None:
        model.register_load_state_dict_post_hook(lambda *_: die())

    def before_optimizer(_model: torch.nn.Module, opt: torch.optim.Optimizer) -> None:
        opt.register_load_state_dict_pre_hook(lambda *_: die())

    def after_optimizer(_model: torch.nn.Module, opt: torch.optim.Optimizer) -> None:
        opt.register_load_state_dict_post_hook(lambda *_: die())

    moments = [after_model, before_optimizer, after_optimizer] * 2
    for moment in moments:
        assert attempt(lambda at=moment: train(before_run=at))  # type: ignore[misc]
    return len(moments)


def kill_at_file_operation(number: int) -> None:
    """Train, and die right before the file operation of that number below the checkpoint folder."""
    root = os.environ["SPOTKEEPER_URI"]
    seen = count()

    def on_audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in FILE_OPERATIONS and str(arguments[0]).startswith(root) and next(seen) == number:
            die()

    sys.addaudithook(on_audit)
    train()


def kill_writer(victims: str) -> int:
    """Train again and again, each time with a crash one file operation later, until there are no more to crash at."""
    root = Path(os.environ["SPOTKEEPER_URI"])
    for number in count():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CRASH_POINT"] = f"{number} {victims} {folder}"
            was_killed = attempt(lambda: train(total=5))
            has_crashed = (Path(folder) / "crashed").exists()
        assert was_killed == (has_crashed and victims == "both")
        check_that_what_is_listed_is_there()
        if not has_crashed:
            return number
        if victims == "writer":
            shutil.rmtree(root)  # the training went on to its end: the next one begins anew
    raise AssertionError


def check_that_what_is_listed_is_there() -> None:
    """Fail if a manifest exists whose data does not: at no moment may anything be listed that cannot be resumed."""
    root = Path(os.environ["SPOTKEEPER_URI"])
    for manifest in root.glob("commit/*/*.json"):
        for stored in json.loads(manifest.read_text())["objects"]:
            assert (root / stored["key"]).stat().st_size == stored["bytes"], manifest


def main() -> None:
    options: dict[str, Any] = {
        "num_workers": int(os.environ.get("NUM_WORKERS", "0")),
        "accumulate": int(os.environ.get("ACCUMULATE", "1")),
        "dataset": os.environ.get("DATASET", "shuffled"),
        "poisoned_from": int(os.environ.get("POISONED_FROM", TOTAL)),
    }
    warm_up()
    adopt_orphans()
    match sys.argv[1:]:
        case ["none"]:
            num_killed = 0
        case ["step", *steps]:
            num_killed = kill_in_steps([int(step) for step in steps], **options)
        case ["restore", step]:
            assert not attempt(lambda: train(total=int(step)))
            num_killed = kill_in_restores()
        case [("writer" | "both") as victims]:
            num_killed = kill_writer(victims)
        case ["file"]:
            num_killed = 0
            for number in count():
                if not attempt(lambda at=number: kill_at_file_operation(at)):  # type: ignore[misc]
                    break
                check_that_what_is_listed_is_there()
                num_killed += 1
        case other:
            sys.exit(f"unknown arguments {other}")
    assert not attempt(lambda: train(**options))
    print("killed", num_killed, flush=True)


if __name__ == "__main__":
    main()
