"""`python -m emulation up`: a deployed environment on this machine, until it is told to stop."""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulation.attempt_interruptions import AttemptInterruptions, Plan
from emulation.aws import ACCESS_KEY, SECRET_KEY
from emulation.cloud import Cloud, Conditions
from emulation.local_endpoint import announce, only_one
from emulation.work_dir import temporary_folder
from spotkeeper.ops.invocation import local_spotkeeper, python

_REPORT_SECONDS = 1.0


def run(
    *,
    environment: str,
    port: int,
    keep: Path | None,
    conditions: Conditions,
    interruptions: Plan,
    is_verbose: bool,
) -> int:
    """Keep an environment up until SIGINT, SIGTERM or SIGHUP; return the exit code, 128 and the signal's number.

    Raises:
        ValueError: if one is up already, or what `Cloud` refuses.
    """
    with only_one(), _work_dir(keep) as work_dir:
        print(f"synthesizing and deploying {environment} (a few seconds)", flush=True)
        with (
            Cloud(environment, work_dir=work_dir, port=port, conditions=conditions) as cloud,
            announce(endpoint_url=cloud.endpoint_url, region=cloud.region, environment=environment),
        ):
            taken = AttemptInterruptions(interruptions, market=cloud.market, clock=cloud.clock, say=_say)
            taken.follow_batch(cloud.batch)
            taken.follow_training(cloud.training)
            _say_how_to_use(cloud, conditions, interruptions, work_dir, is_verbose=is_verbose)
            received = _wait_for_signal(cloud)
    kept = f"logs and jobs are in {keep}" if keep else "nothing is kept (--keep DIR keeps logs and jobs)"
    again = f"{python()} -m emulation {shlex.join(sys.argv[1:])}"
    elsewhere = " (with another --keep)" if keep else ""
    print(f"\nstopped: what ran in it has ended; {kept}. Start a new one: {again}{elsewhere}", file=sys.stderr)
    return 128 + received


def _say(line: str) -> None:
    print(line, flush=True)


def _say_how_to_use(
    cloud: Cloud, conditions: Conditions, interruptions: Plan, work_dir: Path, *, is_verbose: bool
) -> None:
    print(
        f"{cloud.deployment.environment} is up at {cloud.endpoint_url}"
        f" ({cloud.region}, {conditions.speed:g} x real time, seed {conditions.seed})"
    )
    print(f"  {cloud.report.summary()}")
    if is_verbose:
        print("\n".join(f"    {line}" for line in cloud.report.lines()))
    if interruptions.number:
        told = f"the first {interruptions.number} attempts that run for {interruptions.every_seconds:g} s"
    else:
        told = "those of the trace" if conditions.trace else "none (--interruptions N --every SECONDS, or --trace FILE)"
    print(f"interrupts  {told}")
    print(f"use it      {local_spotkeeper()} status")
    print(f"            AWS_ENDPOINT_URL={cloud.endpoint_url} AWS_DEFAULT_REGION={cloud.region}", end="")
    print(f" AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} aws s3 ls")
    print(f"files       {work_dir}")
    print("stop        Ctrl-C", flush=True)


def _wait_for_signal(cloud: Cloud) -> int:
    """Wait for SIGINT, SIGTERM or SIGHUP, and say meanwhile what goes wrong; return the signal's number."""
    received: list[int] = []
    stop = threading.Event()

    def note(number: int, _: object) -> None:
        received.append(number)
        stop.set()

    endings = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
        endings.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in endings}
    said = 0
    try:
        while not stop.wait(_REPORT_SECONDS):
            problems = (*cloud.failures, *cloud.function_errors)
            for problem in problems[said:]:
                print(problem, file=sys.stderr, flush=True)
            said = len(problems)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return received[0]


@contextmanager
def _work_dir(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep.absolute()
        return
    with temporary_folder("emulation") as folder:
        yield folder
