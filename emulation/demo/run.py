"""The demo from the deployment to the promises.

1. deploy the synthesized dev environment into the emulation
2. submit a real training job, through the same code as a user
3. take its capacity away, with and without notice, and at last all spot capacity: watch it go on, fall back, return
4. show what became of each attempt and what it cost, and check every promise
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from emulation.cloud import Cloud, Conditions
from emulation.demo.attempt_logs import AttemptLog, AttemptLogs
from emulation.demo.bill import bill
from emulation.demo.drought import Drought
from emulation.demo.final_state import FinalState
from emulation.demo.interruptions import STEPS_FOR_ONE, Interrupter, draw
from emulation.demo.market_promises import MarketEvidence, check_markets
from emulation.demo.on_sagemaker import SageMakerDemo
from emulation.demo.promises import Evidence, check
from emulation.demo.reclaims import Reclaims
from emulation.demo.run_jobs import RunJob, RunJobs
from emulation.demo.story import Story
from emulation.demo.timeline import timeline
from emulation.demo.turns import handover, shortage, turns
from emulation.demo.uninterrupted import UninterruptedRun
from emulation.ec2.traces import Trace
from emulation.work_dir import temporary_folder
from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.control.run import Run
from spotkeeper.ops.connection import Connection, LocalEndpoint, connect
from spotkeeper.ops.invocation import local_spotkeeper
from spotkeeper.ops.plan import Request
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.status import status_of
from spotkeeper.ops.submission import prepare, submit
from spotkeeper.ops.training_place import BATCH, SAGEMAKER
from spotkeeper.policy.placement import Market

ENVIRONMENT: Final = "dev"
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
STEPS: Final = 350
"""Beside those for interruptions: 28 s at the demo's pace, of which it needs at most 20 until a standby has the run."""
STEPS_ON_SAGEMAKER: Final = 150
"""The same where no standby is waited for."""
SECONDS_A_STEP: Final = 0.08
"""A fast machine waits, so that a run cannot end before its story. A third of it is work on a machine of 2026."""
FALLBACK_CAP_USD: Final = "1"
MAX_LOST_SECONDS: Final = 3
MOST_INTERRUPTIONS: Final = 8
"""Batch gives a job ten attempts, and each interruption takes about 12 s."""
USUAL_SPEED: Final = 60.0
MOST_SPEED: Final = 72.0
"""Batch ends an attempt after 6 h / speed: after 300 s at this one, longer than any attempt of a demo takes."""
TIME_LIMIT_SECONDS: Final = 400.0
"""A demo that takes longer at the usual speed has failed."""
LOOK_SECONDS: Final = 0.2
"""Between two looks at the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user may choose."""

    seed: int = 1
    speed: float = USUAL_SPEED
    """AWS seconds in a real second, for AWS's own delays: boot, image pull, notice (never below 5 real seconds)."""
    with_notice: int = 2
    without_notice: int = 1
    trace: Trace | None = None
    """Decides when there is capacity, instead of the planned interruptions."""
    service: str = BATCH
    """Where the run is submitted to: `batch` or `sagemaker`."""
    keep: Path | None = None
    """Where to leave everything that was written."""

    @property
    def slowness(self) -> float:
        """How much longer AWS's delays take than at the usual speed, at least 1."""
        return max(1.0, USUAL_SPEED / self.speed)

    @property
    def time_limit_seconds(self) -> float:
        """A demo that takes longer has failed."""
        interruptions = MOST_INTERRUPTIONS if self.trace else self.with_notice + self.without_notice
        return TIME_LIMIT_SECONDS * self.slowness * max(1.0, interruptions / 3)

    @property
    def training(self) -> tuple[str, ...]:
        """What is trained: long enough for everything that happens to the run to come before its end."""
        interruptions = self.with_notice + self.without_notice
        steps = STEPS_ON_SAGEMAKER if self.service == SAGEMAKER else STEPS
        return ("python", "train_digits.py", "--steps", f"{steps * self.slowness + STEPS_FOR_ONE * interruptions:.0f}")

    @property
    def command(self) -> tuple[str, ...]:
        """The same at the demo's pace, for the emulated machines."""
        return (*self.training, "--seconds-a-step", str(SECONDS_A_STEP))


def tell(options: Options, console: Console) -> bool:
    """Run the demo and say whether every promise was kept.

    Raises:
        ValueError, OSError: if it cannot start; the message says why.
        RuntimeError: if it came to no end.
    """
    with ExitStack() as stack:
        work_dir = stack.enter_context(_work_dir(options.keep))
        story = stack.enter_context(Story(console))
        story.say(f"Spotkeeper demo, seed {options.seed}: AWS is emulated here, no account is used", "bold")
        uninterrupted = UninterruptedRun(options.training, program_folder=EXAMPLES, work_dir=work_dir / "uninterrupted")
        stack.callback(uninterrupted.stop)
        conditions = Conditions(seed=options.seed, speed=options.speed, trace=options.trace)
        cloud = stack.enter_context(Cloud(ENVIRONMENT, work_dir=work_dir / "cloud", conditions=conditions))
        story.say(f"deployed: {len(cloud.deployment.stacks)} stacks, {cloud.report.summary()}")
        if options.service == SAGEMAKER:
            return _on_sagemaker(options, story, cloud, uninterrupted).run()
        return _Demo(options, story, cloud, uninterrupted).run()


def _on_sagemaker(options: Options, story: Story, cloud: Cloud, uninterrupted: UninterruptedRun) -> SageMakerDemo:
    local = LocalEndpoint(endpoint_url=cloud.endpoint_url, region=cloud.region, environment=ENVIRONMENT)
    return SageMakerDemo(
        story=story,
        cloud=cloud,
        connection=connect(ENVIRONMENT, local=local),
        uninterrupted=uninterrupted,
        command=options.command,
        source=EXAMPLES,
        max_lost_seconds=MAX_LOST_SECONDS,
        time_limit_seconds=options.time_limit_seconds,
        seed=options.seed,
        num_interruptions=(options.with_notice, options.without_notice),
    )


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
        self._drought = Drought(cloud.market)
        self._has_drought = bool(planned)

    def run(self) -> bool:
        submitted_at = datetime.now(UTC)
        run = self._submit(submitted_at)
        jobs = RunJobs(run.run_id, self._tell_job)
        self._cloud.batch.on_change(jobs.see)
        logs = AttemptLogs(self._cloud.batch, jobs, self._see)
        self._watch(run, logs)
        self._uninterrupted.wait(self._options.time_limit_seconds)

        status = status_of(run.run_id, self._connection, now=datetime.now(UTC).isoformat())
        run = status.run
        rows = timeline(status.attempts, logs=logs.attempts, submitted_at=submitted_at)
        self._story.show_timeline(rows)
        if not run.is_complete:
            # Without a completed run there is no final state to compare: its own reason says more.
            raise RuntimeError(f"run {run.run_id} ended as {run.state}: {run.reason}")
        self._story.show_bill(bill(rows, self._cloud.market))
        options = self._options
        last = max(logs.attempts)
        seen = Evidence(
            run=run,
            rows=rows,
            num_attempts=sum(len(self._cloud.batch.attempts(job.job_id)) for job in jobs.all),
            planned=None if options.trace else (options.with_notice, options.without_notice),
            output=logs.attempts[last].lines,
            final=self._final_state(run),
            uninterrupted=self._uninterrupted.final_state(),
            faults=self._faults(),
        )
        seen_of_markets = MarketEvidence(
            rows=rows,
            reservations=self._connection.budgets.reservations(run.run_id),
            cap=status.budget.fallback,
            submitted_at={job.submission: job.created_at for job in jobs.all},
            had_drought=self._has_drought,
        )
        promises = (*check(seen), *check_markets(seen_of_markets))
        self._story.show_promises(promises)
        return all(promise.is_kept for promise in promises)

    def _submit(self, now: datetime) -> Run:
        request = Request(
            command=self._options.command,
            name="digits",
            max_lost_seconds=MAX_LOST_SECONDS,
            progress_seconds=1,
            spending=Spending.of(fallback_cap=FALLBACK_CAP_USD),
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
            f"{local_spotkeeper()} submit --source examples --max-lost {MAX_LOST_SECONDS}s "
            f"--fallback-cap {FALLBACK_CAP_USD} -- {' '.join(run.command)}"
        )
        return run

    def _watch(self, run: Run, logs: AttemptLogs) -> None:
        """Tell what happens, and take capacity away, until the ledger says that the run has ended or rests for good."""
        limit_seconds = self._options.time_limit_seconds
        give_up = time.monotonic() + limit_seconds
        logs.start()
        try:
            while not run.is_closed and not run.needs_person:
                if time.monotonic() > give_up:
                    raise RuntimeError(f"the run did not end within {limit_seconds:.0f} s: it is {run.state}")
                threading.Event().wait(LOOK_SECONDS)
                before, run = run, self._connection.run_of(run.run_id)
                for sentence in turns(before, run, partial(self._reserved_microusd, run.run_id)):
                    self._story.say(sentence, "cyan")
        finally:
            logs.end()
            self._story.end_progress()

    def _reserved_microusd(self, run_id: str, submission: int) -> int:
        of_run = self._connection.budgets.reservations(run_id)
        return next((found.microusd for found in of_run if found.submission == submission), 0)

    def _see(self, log: AttemptLog, line: str) -> None:
        event = parse_line(line)
        if event is None:
            return
        self._tell(log, event)
        if self._interrupter.due(event) is not None:
            if self._interrupter.next_is_last:
                self._drought.begin()
                self._story.say("AWS has no spot capacity in any pool", "yellow")
            self._interrupter.carry_out()
        if self._drought.see(event, is_on_demand=log.instance.market == "on-demand"):
            self._tell_end_of_drought()

    def _tell_job(self, job: RunJob, detail: dict[str, Any]) -> None:
        sentence = shortage(detail, is_dry=self._drought.is_on and job.market == Market.SPOT)
        if sentence is not None:
            self._story.say(sentence, "cyan")
        if self._drought.see_job(job, detail["status"]):
            self._tell_end_of_drought()

    def _tell_end_of_drought(self) -> None:
        self._story.say("spot is back: AWS has capacity again", "yellow")

    def _tell(self, log: AttemptLog, event: dict[str, Any]) -> None:
        say = self._story.say
        match event["event"]:
            case LogEvent.CLAIMED:
                say(f"attempt {log.name} claimed fencing epoch {event['epoch']} on {_place(log)}")
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
            case _:
                sentence = handover(event, name=log.name, place=_place(log))
                if sentence is not None:
                    say(sentence, "cyan")

    def _final_state(self, run: Run) -> FinalState:
        return FinalState.in_bucket(self._connection.s3, self._connection.descriptor.checkpoint_bucket, run.run_id)

    def _faults(self) -> tuple[str, ...]:
        return (*self._cloud.failures, *self._cloud.function_errors, *self._dead_letters())

    def _dead_letters(self) -> Iterator[str]:
        sqs = self._cloud.session.client("sqs", endpoint_url=self._cloud.endpoint_url)
        for queue in self._cloud.deployment.queues.values():
            counted = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["ApproximateNumberOfMessages"])
            number = int(counted["Attributes"]["ApproximateNumberOfMessages"])
            if number and not queue.dead_letter_arn:
                yield f"{queue.name} holds {number} dead messages"


def _place(log: AttemptLog) -> str:
    """Return the machine of an attempt; that it is spot goes without saying."""
    market = "" if log.instance.market == "spot" else f" ({log.instance.market})"
    return f"{log.instance.type} {log.instance.zone}{market}"
