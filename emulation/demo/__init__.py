"""`make demo`: one real training job on the emulated cloud, its capacity taken away, and what became of it."""

import argparse
import shlex
import sys

from rich.console import Console

from spotkeeper.ops.invocation import local_spotkeeper, python

DEFAULT_INTERRUPTIONS = 3
DEFAULT_SPEED = 60.0


def main(given: argparse.Namespace) -> int:
    """Run the demo with the options of the command line; return 0 if every promise was kept, else 1.

    Raises:
        ValueError, OSError, RuntimeError: if it cannot start or comes to no end; the message says why.
    """
    from emulation.demo.run import MOST_INTERRUPTIONS, MOST_SPEED, Options, tell
    from emulation.ec2.traces import read_trace

    interruptions = DEFAULT_INTERRUPTIONS if given.interruptions is None else given.interruptions
    if not 0 <= interruptions <= MOST_INTERRUPTIONS:
        raise ValueError(f"--interruptions must be 0 to {MOST_INTERRUPTIONS}; got {interruptions}")
    speed = DEFAULT_SPEED if given.speed is None else given.speed
    if not 1 <= speed <= MOST_SPEED:
        raise ValueError(
            f"--speed must be 1 to {MOST_SPEED:g} in a demo; got {speed:g}: it shortens Batch's limit of an attempt, "
            "6 h, too, which would end the training"
        )
    if given.on == "sagemaker" and given.trace:
        raise ValueError("--trace is for the demo on AWS Batch: on SageMaker capacity is taken away as planned")
    without_notice = 1 if interruptions > 1 else 0
    options = Options(
        seed=given.seed,
        speed=speed,
        with_notice=interruptions - without_notice,
        without_notice=without_notice,
        trace=read_trace(given.trace) if given.trace else None,
        service=given.on,
        keep=given.keep,
    )
    console = Console()
    is_kept = tell(options, console)
    emulation = f"{python()} -m emulation"
    kept = f"Every promise was kept. `{emulation} up` keeps an environment up for `{local_spotkeeper()} …`."
    again = f"`{emulation} {shlex.join(sys.argv[1:])} --keep DIR`"
    outputs = "training" if given.on == "sagemaker" else "jobs"
    broken = f"A promise was broken: run it again, {again}, and read DIR/cloud/{outputs}."
    console.print(
        f"\n{kept if is_kept else broken}",
        style="bold" if is_kept else "bold red",
        soft_wrap=not console.is_terminal,
        markup=False,
    )
    return 0 if is_kept else 1
