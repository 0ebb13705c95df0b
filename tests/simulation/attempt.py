"""The container of an attempt: claims, trains, commits, completes, and ends with an exit code.

The claim, the completion record, the commit protocol and the exit code are the shipped ones; what stands here is what
`spotkeeper-exec` and `spotkeeper.Run` do between them, without a child process and without torch.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_YIELDED
from spotkeeper.contract.handover import run_view
from spotkeeper.contract.outcome import COMPLETED, STARTED, YIELDED
from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.policy.standby import Evidence, StandbyStep, StandbyView
from tests.simulation.batch import Batch, BatchJob
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.expressions import ConditionFailed
from tests.simulation.fakes import LedgerTable, Link, LinkedStore, ObjectStore, Trace, item_of
from tests.simulation.faults import Swarm
from tests.simulation.invariants import Invariants
from tests.simulation.programs import Programs
from tests.simulation.sched import Scheduler
from tests.simulation.training import Training

SIGTERM: Final = 15
STEP_SECONDS: Final = 600.0
STEPS: Final = 4
TRAINING_SECONDS: Final = STEPS * STEP_SECONDS
BOOT_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 240.0
LEDGER_PATIENCE_SECONDS: Final = 120.0
FINAL_SAVES: Final = 10
PARAMETER: Final = "LR"
"""The variable in which the members of a sweep differ."""
POLL_SECONDS: Final = 120.0
"""How often a standby looks; the product looks more often, which costs the simulation time and shows no more."""


class _Yield(Exception):  # noqa: N818
    """The program stops here, with its work saved as far as that went."""


class _Fenced(Exception):  # noqa: N818
    """The ledger refused a write: another attempt owns the run."""

    def __init__(self, view: StandbyView | None = None) -> None:
        super().__init__()
        self.view = view


class _AlreadyComplete(Exception):  # noqa: N818
    """The ledger refused the claim of a run that is complete."""


class _Unavailable(Exception):  # noqa: N818
    """The ledger did not answer for as long as one waits."""


def view_of(item: Mapping[str, Any]) -> StandbyView:
    """Return what the contract reads from a run's item, which holds plain values here."""
    numbers = ("submission", "standby_submission")
    typed = {name: {"N": str(value)} if name in numbers else {"S": value} for name, value in item.items()}
    return StandbyView(**run_view(typed))


class Container:
    """One attempt of a job. SageMaker ends a job with its containers, so there whoever is told to stop stays."""

    def __init__(
        self,
        batch: Batch | Training,
        job: BatchJob,
        number: int,
        *,
        kind: str | None,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        programs: Programs,
        table: LedgerTable,
        store: ObjectStore,
        invariants: Invariants,
        trace: Trace,
    ) -> None:
        environment = job.environment
        if job.array_index is not None:
            environment[names.BATCH_ARRAY_INDEX] = str(job.array_index)
        self._lacks_own = programs.array_member.is_member(environment)
        self._environment: dict[str, str] = programs.array_member.as_member(environment)
        self.run_id = self._environment[names.RUN_ID]
        self.name = f"{job.label}#{number}"
        self.is_cut_off = False
        self.has_ended = False
        self._submission = int(environment[names.SUBMISSION])
        self._evidence = Evidence(
            age_seconds=float(environment.get(names.STANDBY_AGE_SECONDS, "0")),
            patience_seconds=float(environment.get(names.STANDBY_PATIENCE_SECONDS, "0")),
        )
        self._batch, self._job, self._number = batch, job, number
        self._scheduler, self._choices, self._programs = scheduler, choices, programs
        self._table, self._invariants, self._trace = table, invariants, trace
        self._link = Link(
            self.name, scheduler=scheduler, choices=choices, swarm=swarm, trace=trace, crash=self._lose_host
        )
        self._store = LinkedStore(store, self._link)
        self._kind = kind
        self._is_noticed = False
        self._is_signalled = False
        self._machine = job.machine
        self._epoch = 0
        self._attempt = number
        self._market: str | None = None
        self._program = scheduler.start(self.name, self._live)

    # What the world does to it

    def give_notice(self) -> None:
        """Let the metadata service announce the interruption."""
        self._is_noticed = True
        self._scheduler.wake(self._program)

    def request_stop(self) -> None:
        """Deliver SIGTERM."""
        self._is_signalled = True
        self._scheduler.wake(self._program)

    def kill(self) -> None:
        """End it where it stands."""
        self._scheduler.stop(self._program)
        self._leave()

    def _lose_host(self) -> None:
        if not self.has_ended and not self.is_cut_off:
            self._batch.lose_host(self._job)
        self.kill()

    # What it does

    def _live(self) -> None:
        code = self._run()
        self._trace(self.name, f"exits {code}")
        self._leave()
        self._batch.exited(self._job, self._number, code)

    def _leave(self) -> None:
        self.has_ended = True
        self._invariants.left(self)

    def _run(self) -> int:
        boot = () if self._job.is_on_demand else self._link.swarm.boot
        self._scheduler.pause(self._choices.draw(f"{self.name}: boot", boot) or BOOT_SECONDS)
        if self._is_signalled and self._job.survives_its_containers:
            return EXIT_YIELDED
        try:
            code = self._begin()
            if code is not None:
                return code
            self._invariants.given(self, self._environment.get(PARAMETER))
            returncode, outcome, step = self._train_plainly() if self._kind == "plain" else self._train()
            return self._end(returncode, outcome, step)
        except (_Fenced, self._programs.checkpoint.FencedError):
            self._trace(self.name, "is fenced")
            fenced: int = self._programs.exit_codes.EXIT_FENCED
            return fenced
        except _AlreadyComplete:
            return EXIT_COMPLETED
        except (_Unavailable, OSError):
            return EXIT_YIELDED

    def _end(self, returncode: int, outcome: str | None, step: int | None) -> int:
        forwarded = frozenset({SIGTERM} if self._is_signalled else ())
        code: int = self._programs.ending.exit_code(returncode, outcome, forwarded)
        if code == EXIT_COMPLETED:
            self._complete(step)
        return code

    # Standby and handover

    def _begin(self) -> int | None:
        """Claim the run, as its standby once it is free; return the exit code to leave with instead, if it never is."""
        if self._is_ours():
            return None
        code = self._stand_by()
        if code is None:
            self._claim()
        return code

    def _is_ours(self) -> bool:
        """Claim the run; tell whether it is ours, or waited for as its standby."""
        try:
            self._claim()
        except _Fenced as refusal:
            if not self._programs.standby_policy.is_standby(refusal.view, submission=self._submission):
                raise
            return False
        return True

    def _stand_by(self) -> int | None:
        """Wait for the run as `trainer.standby` does; return the exit code to leave with, None to claim."""
        self._trace(self.name, "stands by")
        began_seconds, asked_seconds, is_ready = self._scheduler.now_seconds, None, False
        while not (self._is_noticed or self._is_signalled):
            now_seconds = self._scheduler.now_seconds
            try:
                view = self._look()
                step = self._programs.standby_policy.next_step(
                    view,
                    submission=self._submission,
                    age_seconds=now_seconds - began_seconds,
                    asked_seconds=None if asked_seconds is None else now_seconds - asked_seconds,
                    evidence=self._evidence,
                )
                if step is StandbyStep.CLAIM:
                    return None
                if step is StandbyStep.LEAVE:
                    self._trace(self.name, "leaves")
                    return EXIT_FENCED
                is_ready = is_ready or self._say("ready", self._programs.handover.ready_request, "ready_at")
                if step is StandbyStep.ASK and self._say("ask", self._programs.handover.handover_request, "asked_at"):
                    self._trace(self.name, "asks for the run")
                    asked_seconds = now_seconds
            except (_Fenced, _Unavailable):
                pass  # the next look tells
            self._scheduler.pause(POLL_SECONDS)
        if self._is_noticed and not self._is_signalled:
            self._scheduler.pause(LINGER_SECONDS)
        return EXIT_YIELDED

    def _look(self) -> StandbyView:
        """Read the run once."""
        try:
            read = self._link.swarm.read
            run = self._link.call("look", read, lambda: self._table.runs[self.run_id], lost=ConnectionError)
        except (Throttled, ConnectionError) as error:
            raise _Unavailable from error
        return view_of(item_of(run))

    def _say(self, what: str, request_of: Callable[..., dict[str, Any]], moment: str) -> bool:
        """Make one of the standby's own writes, once."""
        at = {moment: iso(self._scheduler.now_seconds)}
        self._ask(what, request_of(table="ledger", run_id=self.run_id, submission=self._submission, **at), patience=0)
        return True

    def _give_way_if_asked(self) -> None:
        """Look, as the holder on on-demand does, whether a standby asks; be told to stop then."""
        if not self._programs.standby_policy.may_be_followed(self._market) or self._is_signalled:
            return
        try:
            if self._programs.standby_policy.gives_way(self._look(), is_complete=False):
                self._trace(self.name, "gives way")
                self._is_signalled = True
        except _Unavailable:
            pass

    def _claim(self) -> None:
        if not self._job.numbers_attempts:
            self._attempt = self._next_attempt()
        request = self._programs.contract.claim_request(
            table="ledger",
            run_id=self.run_id,
            submission=self._submission,
            job_id=self._job.job_id,
            attempt=self._attempt,
            claimed_at=iso(self._scheduler.now_seconds),
        )
        claimed = self._ask("claim", request)
        self._epoch, self._market = claimed.epoch, claimed.market
        if self._lacks_own:
            self._environment.update(claimed.variables)
        self._trace(self.name, f"claims epoch {self._epoch} on {self._market}")
        place = {"market": self._market, **self._machine}
        self._table.update_attempt(
            self.run_id,
            self._programs.contract.placement_request(
                table="ledger",
                run_id=self.run_id,
                submission=self._submission,
                job_id=self._job.job_id,
                attempt=self._attempt,
                epoch=self._epoch,
                claimed_at=iso(self._scheduler.now_seconds),
                placement=place,
            ),
        )

    def _next_attempt(self) -> int:
        """Return the number of an attempt that is not told: the ledger knows who claimed last."""
        give_up_at = self._scheduler.now_seconds + LEDGER_PATIENCE_SECONDS
        while True:
            try:
                run = self._link.call(
                    "last claim",
                    self._link.swarm.read,
                    lambda: self._table.runs.get(self.run_id),
                    lost=ConnectionError,
                )
            except (Throttled, ConnectionError) as error:
                if self._scheduler.now_seconds + 10.0 > give_up_at:
                    raise _Unavailable from error
                self._scheduler.pause(10.0)
                continue
            item: dict[str, Any] = {}
            if run is not None and run.claimed_job_id is not None:
                item["claimed_job_id"] = {"S": run.claimed_job_id}
                item["claimed_attempt"] = {"N": str(run.claimed_attempt)}
            number: int = self._programs.contract.next_attempt(item, self._job.job_id)
            return number

    def _complete(self, step: int | None) -> None:
        self._ask(
            "complete",
            self._programs.contract.completion_request(
                table="ledger",
                run_id=self.run_id,
                epoch=self._epoch,
                step=step,
                completed_at=iso(self._scheduler.now_seconds),
            ),
        )
        self._trace(self.name, f"records completion of epoch {self._epoch}")

    def _ask(self, operation: str, request: Mapping[str, Any], patience: float = LEDGER_PATIENCE_SECONDS) -> Any:
        """Make a conditional write, again and again while the ledger does not answer, as `AttemptLedger` does."""
        give_up_at = self._scheduler.now_seconds + patience
        while True:
            try:
                return self._link.call(
                    operation,
                    self._link.swarm.claim,
                    lambda: (
                        self._invariants.claimed(self, self._table.update_run(self.run_id, request, self.name))
                        if operation == "claim"
                        else self._table.update_run(self.run_id, request, self.name)
                    ),
                    lost=ConnectionError,
                )
            except ConditionFailed as refusal:
                item = refusal.item or {}
                if "completion" in item:
                    raise _AlreadyComplete from refusal
                # A run that is not there may come: its job was submitted past us.
                if item or operation != "claim" or self._scheduler.now_seconds + 10.0 > give_up_at:
                    raise _Fenced(view_of(item)) from refusal
            except (Throttled, ConnectionError, Conflict) as error:
                if self._scheduler.now_seconds + 10.0 > give_up_at:
                    raise _Unavailable from error
            self._scheduler.pause(10.0)

    # Training with the library

    def _train(self) -> tuple[int, str | None, int | None]:
        """Return code, outcome and last step, as `spotkeeper.Run` leaves them."""
        newest = self._invariants.newest_checkpoint(self.run_id)
        checkpoints = self._checkpoints()
        found = checkpoints.newest_valid()
        step = 0 if found is None else found.manifest["step"]
        self._invariants.resumed(self, step, at_least=newest)
        if step:
            self._trace(self.name, f"resumes after step {step}")
        try:
            committed = step
            while step < STEPS:
                if self._kind in ("fails", "stops early") and step == 1:
                    return (3, STARTED, step) if self._kind == "fails" else (0, STARTED, step)
                self._scheduler.pause(STEP_SECONDS)
                self._give_way_if_asked()
                step += not (self._is_noticed or self._is_signalled)
                if step < STEPS:
                    committed = self._save(checkpoints, step, committed)
                self._stop_if_asked()
            for _ in range(FINAL_SAVES):
                committed = self._save(checkpoints, step, committed)
                if committed == step:
                    self._invariants.trained(self)
                    return 0, COMPLETED, step
                self._scheduler.pause(1.0)
        except _Yield:
            pass
        return EXIT_YIELDED, YIELDED, step

    def _checkpoints(self) -> Any:
        return self._programs.checkpoint.Checkpoints(self._store, run_id=self.run_id, keep=2, epoch=self._epoch)

    def _save(self, checkpoints: Any, step: int, committed: int) -> int:
        """Commit the step if that was not done yet; return the step that is known to be committed."""
        if step == committed:
            return committed
        try:
            content = b"%d" % step
            stored = checkpoints.write_data(step=step, chunks=[memoryview(content)], total_bytes=len(content))
            checkpoints.commit(step=step, cause="periodic", stored=stored, state={})
        except OSError:
            return committed
        self._trace(self.name, f"commits step {step}")
        return step

    def _stop_if_asked(self) -> None:
        if self._is_noticed and not self._is_signalled:
            self._scheduler.pause(LINGER_SECONDS)
            raise _Yield
        if self._is_signalled:
            if not self._job.survives_its_containers:
                self._scheduler.pause(LINGER_SECONDS)
            raise _Yield

    def _train_plainly(self) -> tuple[int, str | None, int | None]:
        """Train as a program does that knows nothing of Spotkeeper: from the start, and exit 0 when told to stop."""
        for _ in range(STEPS):
            self._scheduler.pause(STEP_SECONDS)
            self._give_way_if_asked()
            if self._is_signalled:
                return 0, None, None
        self._invariants.trained(self)
        return 0, None, None
