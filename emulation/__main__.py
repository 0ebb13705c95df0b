"""`python -m emulation up` and `python -m emulation demo`."""

import argparse
import errno
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.ops.invocation import python


class _Terminated(KeyboardInterrupt):
    """The same as Ctrl-C, from a program (SIGTERM) or from a terminal that is closed (SIGHUP)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    world = argparse.ArgumentParser(add_help=False)
    world.add_argument("--seed", type=int, default=0, metavar="N", help="decides prices, names and interruptions")
    world.add_argument(
        "--speed",
        type=float,
        metavar="N",
        help="from 1: AWS's own delays (booting, notices, queue limits, schedules and so sweeps) and the environment's "
        "times until on-demand, a standby or SageMaker's next type pass N times faster; programs run in real time, "
        "and so do Spotkeeper's other waits (5 minutes to an hour after a lack of capacity or money)",
    )
    world.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="recorded spot availability, played over and over: .csv with the columns time,available[,spot_price] (ISO "
        '8601 or seconds; 0 or 1; USD per hour), or .json as {"metadata": {"gap_seconds": 600}, "data": [1, 0, …]}; '
        "may be .gz; an example: examples/spot_availability.csv",
    )
    world.add_argument("--keep", type=Path, metavar="DIR", help="write everything here and leave it")
    commands = argparse.ArgumentParser(prog="python -m emulation", description="AWS on this machine.")
    subcommands = commands.add_subparsers(dest="command", required=True)
    up = subcommands.add_parser(
        "up",
        parents=[world],
        help="keep an environment up until Ctrl-C",
        description="Keep an environment up until Ctrl-C. Jobs of every profile are processes of this machine: no "
        "image is used, so programs find the packages of this Python, no job is given a GPU, and every job reaches "
        "what this machine reaches, those without network too.",
    )
    up.add_argument("--env", default="dev", metavar="NAME", help="an environment of stacks/environments.py (dev)")
    up.add_argument(
        "--port", type=int, default=0, metavar="N", help="of the AWS endpoint; 0, the default, is any free one"
    )
    up.add_argument(
        "--interruptions", type=int, default=0, metavar="N", help="take the machines of N attempts back; 0, the default"
    )
    up.add_argument(
        "--every", type=float, default=20.0, metavar="SECONDS", help="when an attempt has run for so long (20)"
    )
    up.add_argument("--verbose", action="store_true", help="list all that differs from the templates, with reasons")
    demo = subcommands.add_parser("demo", parents=[world], help="train a model, take its capacity away, see it finish")
    demo.add_argument("--interruptions", type=int, metavar="N", help="how often capacity is taken away")
    demo.add_argument("--on", choices=("batch", "sagemaker"), default="batch", help="where the run is submitted to")
    for subcommand in (up, demo):
        subcommand.set_defaults(refuse=subcommand.error)
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what the user can do something about is one line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given, unknown = parser().parse_known_args(words)
    if unknown:
        # By the subcommand, whose usage is the one to look at.
        given.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return _run(given)
    except KeyboardInterrupt as interrupt:
        again = f"{python()} -m emulation {shlex.join(words)}{' (with another --keep)' if given.keep else ''}"
        print(f"\nstopped; nothing is left running. Start again: {again}", file=sys.stderr)
        return 128 + (interrupt.number if isinstance(interrupt, _Terminated) else signal.SIGINT)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"the disk is full{where}: free some space, or give another disk with --keep DIR or TMPDIR")
    except (ValueError, RuntimeError, ClientError, BotoCoreError) as error:
        return _fail(str(error))


def _run(given: argparse.Namespace) -> int:
    # Imported here: both take a second, and a mistyped option should not.
    if given.command == "demo":
        from emulation import demo

        return demo.main(given)
    from emulation import up
    from emulation.attempt_interruptions import Plan
    from emulation.cloud import Conditions
    from emulation.ec2.traces import read_trace

    conditions = Conditions(
        seed=given.seed,
        speed=1.0 if given.speed is None else given.speed,
        trace=read_trace(given.trace) if given.trace else None,
    )
    return up.run(
        environment=given.env,
        port=given.port,
        keep=given.keep,
        conditions=conditions,
        interruptions=Plan(given.interruptions, given.every),
        is_verbose=given.verbose,
    )


def _fail(message: str) -> int:
    print(f"python -m emulation: {message}", file=sys.stderr)
    return 1


def _terminate(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the cleaning up
    raise _Terminated(number)


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            signal.signal(ending, _terminate)
    sys.exit(main())
