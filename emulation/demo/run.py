"""The demo from the deployment to the promises.

1. deploy the synthesized dev environment into the emulation
2. submit a real training job, through the same code as a user
3. take its capacity away, with and without notice, and watch it go on
4. show what became of each attempt and what it cost, and check every promise
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from emulation.cloud import Cloud, Conditions
from emulation.demo.attempt_logs import AttemptLog, AttemptLogs
from emulation.demo.final_state import FinalState
from emulation.demo.interruptions import Interrupter, draw
from emulation.demo.promises import Evidence, check
from emulation.demo.reclaims import Reclaims
from emulation.demo.story import Story
from emulation.demo.timeline import billed, timeline
from emulation.demo.uninterrupted import UninterruptedRun
from emulation.ec2.traces import Trace
from emulation.work_dir import temporary_folder
from spotkeeper.contract.checkpoint_layout import commit_prefix
from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.control.run import Run
from spotkeeper.ops.connection import Connection, LocalEndpoint, connect
from spotkeeper.ops.invocation import local_spotkeeper
from spotkeeper.ops.plan import Request
from spotkeeper.ops.status import status_of
from spotkeeper.ops.submission import prepare, submit
from spotkeeper.policy.savings import savings

ENVIRONMENT: Final = "dev"
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
STEPS: Final = 1000
STEPS_FOR_AN_INTERRUPTION: Final = 333
"""As many as each of three has: a fast machine may do so many until progress is reported and the notice seen."""
MAX_LOST_SECONDS: Final = 3
MOST_INTERRUPTIONS: Final = 8
"""Batch gives a job ten attempts, and each interruption takes about 12 s."""
TIME_LIMIT_SECONDS: Final = 300.0
"""A demo that takes longer has failed; more than three interruptions, or a trace, are given more."""
MOST_SPEED: Final = 6 * 3600 / TIME_LIMIT_SECONDS
"""Batch ends an attempt after 6 h / speed, which must not come before the demo's own limit."""
SETTLE_SECONDS: Final = 20.0
"""For the last events to reach the ledger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user may choose."""

    seed: int = 1
    speed: float = 60.0
    """AWS seconds in a real second, for AWS's own delays: boot, image pull, notice (never below 5 real seconds)."""
    with_notice: int = 2
    without_notice: int = 1
    trace: Trace | None = None
    """Decides when there is capacity, instead of the planned interruptions."""
    keep: Path | None = None
    """Where to leave everything that was written."""

    @property
    def command(self) -> tuple[str, ...]:
        """What is trained: long enough for every interruption to come before the end."""
        steps = max(STEPS, STEPS_FOR_AN_INTERRUPTION * (self.with_notice + self.without_notice))
        return ("python", "train_digits.py", "--steps", str(steps))

    @property
    def time_limit_seconds(self) -> float:
        """Real seconds after which the demo has failed."""
        interruptions = MOST_INTERRUPTIONS if self.trace else self.with_notice + self.without_notice
        return TIME_LIMIT_SECONDS * max(1.0, interruptions / 3)


def tell(options: Options, console: Console) -> bool:
    """Run the demo and say whether every promise was kept.

    Raises:
        ValueError, OSError: if it cannot start; the message says why.
        RuntimeError: if it came to no end.
    """
    with ExitStack() as stack:
        work_dir = stack.enter_context(_work_dir(options.keep))
        story = stack.enter_context(Story(console))
        story.say(f"Spotkeeper demo, seed {options.seed}: AWS is emulated on this machine, no account is used", "bold")
        uninterrupted = UninterruptedRun(options.command, program_folder=EXAMPLES, work_dir=work_dir / "uninterrupted")
        stack.callback(uninterrupted.stop)
        conditions = Conditions(seed=options.seed, speed=options.speed, trace=options.trace)
        cloud = stack.enter_context(Cloud(ENVIRONMENT, work_dir=work_dir / "cloud", conditions=conditions))
        story.say(f"deployed: {len(cloud.deployment.stacks)} stacks, {cloud.report.summary()}")
        return _Demo(options, story, cloud, uninterrupted).run()


@contextmanager
def _work_dir(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with temporary_folder("demo") as folder:
            yield folder
        return
    keep = keep.absolute()  # the trainings run in folders of their own
    if keep.exists() and any(keep.iterdir()):
        raise ValueError(f"--keep must name a folder that is empty or does not exist yet; {keep} has files in it")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


class _Demo:
    """One demo on a running emulation; `run` reads as what happens in it."""

    def __init__(self, options: Options, story: Story, cloud: Cloud, uninterrupted: UninterruptedRun) -> None:
        self._options = options
        self._story = story
        self._cloud = cloud
        self._uninterrupted = uninterrupted
        local = LocalEndpoint(endpoint_url=cloud.endpoint_url, region=cloud.region, environment=ENVIRONMENT)
        self._connection: Connection = connect(ENVIRONMENT, local=local)
        planned = () if options.trace else draw(
            options.seed, with_notice=options.with_notice, without_notice=options.without_notice
        )  # fmt: skip
        self._interrupter = Interrupter(cloud.market, planned)
        cloud.market.attach(Reclaims(lambda told: story.say(told, "yellow"), cloud.clock.notice_seconds))

    def run(self) -> bool:
        submitted_at = datetime.now(UTC)
        run = self._submit(submitted_at)
        logs = self._watch(run)
        run = self._settle(run)
        self._uninterrupted.wait(self._options.time_limit_seconds)

        attempts = self._connection.ledger.attempts(run.run_id)
        rows = timeline(attempts, logs=logs.attempts, instances=self._cloud.market.instances, submitted_at=submitted_at)
        self._story.show_timeline(rows)
        if not run.is_complete:
            # Without a completed run there is no final state to compare: its own reason says more.
            raise RuntimeError(f"run {run.run_id} ended as {run.state}: {run.reason}")
        times = billed(rows, self._cloud.market)
        self._story.show_bill(rows, times, savings(times))
        options = self._options
        last = max(logs.attempts)
        promises = check(
            Evidence(
                run=run,
                rows=rows,
                num_attempts=len(self._cloud.batch.attempts(_job_of(run))),
                planned=None if options.trace else (options.with_notice, options.without_notice),
                output=logs.attempts[last].lines,
                final=self._final_state(run),
                uninterrupted=self._uninterrupted.final_state(),
                faults=self._faults(),
            )
        )
        self._story.show_promises(promises)
        return all(promise.is_kept for promise in promises)

    def _submit(self, now: datetime) -> Run:
        request = Request(
            command=self._options.command, name="digits", max_lost_seconds=MAX_LOST_SECONDS, progress_seconds=1
        )
        plan = prepare(
            request,
            connection=self._connection,
            source_directory=EXAMPLES,
            suffix=secrets.token_hex(2),
            now=now.isoformat(timespec="seconds"),
        )
        run = submit(plan, connection=self._connection, now=now.isoformat(timespec="seconds"), pause=time.sleep)
        self._story.say(f"submitted: run {run.run_id}, {run.market} queue of profile {run.profile}, as this does:")
        self._story.say(
            f"  {local_spotkeeper()} submit --source examples --max-lost {MAX_LOST_SECONDS}s -- {' '.join(run.command)}"
        )
        return run

    def _watch(self, run: Run) -> AttemptLogs:
        """Tell what happens, and take capacity away, until Batch says that the job has ended."""
        logs = AttemptLogs(self._cloud.batch, _job_of(run), self._see)
        logs.start()
        try:
            self._cloud.batch.wait(_job_of(run), {"SUCCEEDED", "FAILED"}, self._options.time_limit_seconds)
        except TimeoutError as error:
            limit = f"{self._options.time_limit_seconds:.0f} s"
            raise RuntimeError(f"the run did not end within {limit}: {error}") from error
        finally:
            logs.end()
            self._story.end_progress()
        return logs

    def _see(self, log: AttemptLog, line: str) -> None:
        event = parse_line(line)
        if event is None:
            return
        self._tell(log, event)
        self._interrupter.see(event)

    def _tell(self, log: AttemptLog, event: dict[str, Any]) -> None:
        say = self._story.say
        match event["event"]:
            case LogEvent.CLAIMED:
                pool = f"{event.get('instance_type')} {event.get('availability_zone')}"
                say(f"attempt 1.{log.number} claimed fencing epoch {event['epoch']} on {pool}")
            case LogEvent.RESUMED:
                say(f"  resumed after step {event['step']}; saves every {event['max_lost_seconds']:g} s", "green")
            case LogEvent.COMMITTED if event["cause"] != "periodic":
                say(f"  committed step {event['step']} ({event['cause']})", "green")
            case LogEvent.LINGERING:
                say("  saved; lingers, so that no retry lands on the dying machine")
            case LogEvent.DAMAGED | LogEvent.SAVE_FAILED | LogEvent.FENCED:
                say(f"  {event['event']}: {event.get('reason')}", "red")
            case LogEvent.COMPLETED:
                say(f"  completed at step {event.get('step')}", "bold green")
            case LogEvent.PROGRESS:
                self._story.progress(event)

    def _settle(self, run: Run) -> Run:
        """Wait for the handlers to bring the ledger up to date."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            found = self._connection.ledger.get(run.run_id)
            if found is not None and found.is_closed:
                break
            threading.Event().wait(0.1)
        return status_of(run.run_id, self._connection).run

    def _final_state(self, run: Run) -> FinalState:
        s3, bucket = self._connection.s3, self._connection.descriptor.checkpoint_bucket
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=commit_prefix(run.run_id))
        return FinalState.read(
            [stored["Key"] for stored in listed.get("Contents", [])],
            run.run_id,
            lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read(),
        )

    def _faults(self) -> tuple[str, ...]:
        return (*self._cloud.failures, *self._cloud.function_errors, *self._dead_letters())

    def _dead_letters(self) -> Iterator[str]:
        sqs = self._cloud.session.client("sqs", endpoint_url=self._cloud.endpoint_url)
        for queue in self._cloud.deployment.queues.values():
            counted = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["ApproximateNumberOfMessages"])
            number = int(counted["Attributes"]["ApproximateNumberOfMessages"])
            if number and not queue.dead_letter_arn:
                yield f"{queue.name} holds {number} dead messages"


def _job_of(run: Run) -> str:
    assert run.job_id is not None, "submit returns a run whose job is known"
    return run.job_id
