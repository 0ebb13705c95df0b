"""The same demo on SageMaker managed spot: one run in training jobs, restarted, out of machines, on its next type.

1. a training job of the first type is interrupted, with and without SIGTERM: SageMaker starts it again by itself
2. its machines are taken away and there are no others: Spotkeeper stops the job and asks for the next type
3. there are machines of that type: the run goes on from its newest checkpoint to its end
"""

import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from emulation.cloud import Cloud
from emulation.demo.final_state import FinalState
from emulation.demo.interruptions import Interrupter, draw
from emulation.demo.promises import Promise, is_accurate, is_bit_identical, succeeded
from emulation.demo.reclaims import Reclaims
from emulation.demo.story import Story
from emulation.demo.uninterrupted import UninterruptedRun
from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.contract.names import training_job_name
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt, Run
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.invocation import local_spotkeeper
from spotkeeper.ops.plan import Request
from spotkeeper.ops.submission import prepare, submit
from spotkeeper.ops.training_place import SAGEMAKER

LOOK_SECONDS: Final = 0.2


class SageMakerDemo:
    """One demo on a running emulation; `run` reads as what happens in it."""

    def __init__(
        self,
        *,
        story: Story,
        cloud: Cloud,
        connection: Connection,
        uninterrupted: UninterruptedRun,
        command: tuple[str, ...],
        source: Path,
        max_lost_seconds: int,
        time_limit_seconds: float,
        seed: int,
        num_interruptions: tuple[int, int],
    ) -> None:
        self._story = story
        self._cloud = cloud
        self._connection = connection
        self._uninterrupted = uninterrupted
        self._command = command
        self._source = source
        self._max_lost_seconds = max_lost_seconds
        self._time_limit_seconds = time_limit_seconds
        self._with_notice, self._without_notice = num_interruptions
        planned = draw(seed, with_notice=self._with_notice, without_notice=self._without_notice)
        self._interrupter = Interrupter(cloud.market, planned)
        self._lines_read: dict[str, int] = {}
        self._output: list[str] = []
        self._is_dry = False
        cloud.market.attach(Reclaims(lambda told: story.say(told, "yellow"), cloud.clock.notice_seconds))

    def run(self) -> bool:
        """Tell the story and say whether every promise was kept.

        Raises:
            RuntimeError: if the run came to no end.
        """
        run = self._watch(self._submit(datetime.now(UTC)))
        self._uninterrupted.wait(self._time_limit_seconds)
        if not run.is_complete:
            raise RuntimeError(f"run {run.run_id} ended as {run.state}: {run.reason}")
        attempts = self._settled(run)
        for attempt in attempts:
            self._story.say(
                f"attempt {attempt.submission}.{attempt.attempt} on {attempt.instance_type}: {attempt.cause}"
            )
        promises = self._promises(run, attempts)
        self._story.show_promises(promises)
        return all(promise.is_kept for promise in promises)

    def _submit(self, now: datetime) -> Run:
        request = Request(
            command=self._command,
            name="digits",
            service=SAGEMAKER,
            max_lost_seconds=self._max_lost_seconds,
            progress_seconds=1,
        )
        told = now.isoformat(timespec="seconds")
        plan = prepare(
            request, connection=self._connection, source_directory=self._source, suffix=secrets.token_hex(2), now=told
        )
        run = submit(plan, connection=self._connection, now=told, pause=time.sleep)
        self._story.say(f"submitted: run {run.run_id}, training job {_job_of(run)}, as this does:")
        self._story.say(
            f"{local_spotkeeper()} submit --on sagemaker --source examples --max-lost {self._max_lost_seconds}s "
            f"-- {' '.join(run.command)}"
        )
        return run

    def _watch(self, run: Run) -> Run:
        give_up = time.monotonic() + self._time_limit_seconds
        try:
            while not run.is_closed and not run.needs_person:
                if time.monotonic() > give_up:
                    raise RuntimeError(
                        f"the run did not end within {self._time_limit_seconds:.0f} s: it is {run.state}"
                    )
                threading.Event().wait(LOOK_SECONDS)
                before, run = run, self._connection.run_of(run.run_id)
                if run.submission != before.submission:
                    self._story.say(
                        f"no machine came: training job {_job_of(run)} asks for {run.instance_type} instead", "cyan"
                    )
                    self._end_drought()
                self._read(_job_of(run))
            self._read(_job_of(run))
        finally:
            self._story.end_progress()
        return run

    def _read(self, job: str) -> None:
        """Tell what the job's containers have written since, restarts included."""
        if not self._cloud.training.has(job) or not self._cloud.training.periods(job):
            return
        *lines, _ = self._cloud.training.output(job).split("\n")
        new = lines[self._lines_read.get(job, 0) :]
        self._lines_read[job] = len(lines)
        self._output += new
        for line in new:
            event = parse_line(line)
            if event is not None:
                self._tell(job, event)

    def _tell(self, job: str, event: dict[str, Any]) -> None:
        match event["event"]:
            case LogEvent.CLAIMED:
                self._story.say(f"epoch {event['epoch']} is claimed by {job}")
                # A container on SageMaker does not know its machine.
                instances = self._cloud.training.instances(job)
                event = {**event, "instance_id": instances[0].id if instances else None}
            case LogEvent.RESUMED:
                self._story.say(f"  resumed after step {event['step']}", "green")
            case LogEvent.COMMITTED if event["cause"] != "periodic":
                self._story.say(f"  committed step {event['step']} ({event['cause']})", "green")
            case LogEvent.COMPLETED:
                self._story.say(f"  completed at step {event.get('step')}", "bold green")
            case LogEvent.PROGRESS:
                self._story.progress(event)
        if self._interrupter.due(event) is not None:
            if self._interrupter.next_is_last:
                self._cloud.market.dry()
                self._is_dry = True
                self._story.say("SageMaker has no machine of this type any more", "yellow")
            self._interrupter.carry_out()

    def _end_drought(self) -> None:
        if self._is_dry:
            self._is_dry = False
            self._cloud.market.restore()
            self._story.say("of this type SageMaker has machines", "yellow")

    def _settled(self, run: Run) -> tuple[Attempt, ...]:
        """Wait until the ledger knows how every attempt ended: events of the last one may still be on their way."""
        give_up = time.monotonic() + self._time_limit_seconds
        while time.monotonic() < give_up:
            attempts = self._connection.ledger.attempts(run.run_id)
            if all(attempt.cause is not None for attempt in attempts):
                return attempts
            threading.Event().wait(LOOK_SECONDS)
        raise RuntimeError(f"the ledger does not know how the attempts of {run.run_id} ended")

    def _promises(self, run: Run, attempts: tuple[Attempt, ...]) -> tuple[Promise, ...]:
        planned = self._with_notice + self._without_notice
        interrupted = [attempt.cause for attempt in attempts].count(Cause.INTERRUPTED)
        epochs = [attempt.epoch for attempt in attempts if attempt.epoch is not None]
        asked = [
            self._cloud.training.job(training_job_name(run.environment, run.run_id, number))["ResourceConfig"]
            for number in range(1, run.submission + 1)
        ]
        types = [machines.get("InstanceType") for machines in asked]
        faults = (*self._cloud.failures, *self._cloud.function_errors)
        return (
            succeeded(run),
            Promise(
                f"its machines were taken away {planned} times, and the ledger knows each",
                interrupted == planned,
                f"{interrupted} attempts interrupted",
            ),
            Promise(
                "each attempt has a higher fencing epoch",
                epochs == sorted(set(epochs)),
                f"fencing epochs {', '.join(map(str, epochs))}",
            ),
            Promise(
                "a type without machines made way for the next one",
                len(types) == (2 if planned else 1) and len(set(types)) == len(types),
                ", then ".join(map(str, types)),
            ),
            is_bit_identical(self._final_state(run), self._uninterrupted.final_state()),
            is_accurate(self._output),
            Promise("every event was handled: no handler failed", not faults, "; ".join(faults) or "no fault"),
        )

    def _final_state(self, run: Run) -> FinalState:
        return FinalState.in_bucket(self._connection.s3, self._connection.descriptor.checkpoint_bucket, run.run_id)


def _job_of(run: Run) -> str:
    return training_job_name(run.environment, run.run_id, run.submission)
