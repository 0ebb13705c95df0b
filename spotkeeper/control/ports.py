"""What the control plane needs from the world: operations of the domain, with typed refusals.

Adapters are in `control/aws`. Any call may raise `Throttled`; nothing happened then.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from spotkeeper.control.budget import Budget, Reservation, Switch
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.run import Attempt, HistoryEvent, Interruption, Run

if TYPE_CHECKING:
    from spotkeeper.contract.checkpoint_layout import CompletionRecord
    from spotkeeper.control.condition import Commit
    from spotkeeper.control.others import OthersJob
    from spotkeeper.control.spot_prices import SpotPrices
    from spotkeeper.control.sweep_record import SweepRecord
    from spotkeeper.control.terms import EnvironmentTerms


class Conflict(Exception):  # noqa: N818 - a refusal that callers branch on, named for what it says
    """The item is not what the caller read. Read again and decide anew."""


class UnknownRun(LookupError):  # noqa: N818
    """The ledger has no run of this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r}; `spotkeeper status` lists the runs")
        self.run_id = run_id


class Throttled(Exception):  # noqa: N818
    """AWS refused the call for its rate. Nothing happened; try later."""


class ReplyLost(Exception):  # noqa: N818
    """The call was sent and no answer came: it may have taken effect. Look up before repeating."""


class NameTaken(ReplyLost):
    """A job of the name is there, by an earlier call or by somebody else, and the name is never given again."""


class Refused(Exception):  # noqa: N818
    """AWS rejects the request itself. Nothing happened, and repeating will not help."""


class NotAllowed(Refused):
    """AWS does not let this caller do it: a permission is missing, or has been taken away."""


class QuotaReached(Refused):
    """SageMaker rejects the request because the account may have no more machines of the type: another may do."""


class NoSuchQueue(Exception):  # noqa: N818
    """AWS Batch has no such queue, any more. It has ended the queue's jobs with it, and lists none of them."""


class JobStatus(StrEnum):
    """Batch's states of a job."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobAttempt:
    """One attempt, as Batch tells it. `stopped_at` is None while it runs."""

    started_at: str | None = None
    stopped_at: str | None = None
    exit_code: int | None = None
    status_reason: str | None = None
    reason: str | None = None
    log_stream: str | None = None


class ContainerInput(StrEnum):
    """What a training job brings into its containers beside command and variables, as CreateTrainingJob names it."""

    CHANNELS = "InputDataConfig"
    CHECKPOINTS = "CheckpointConfig"
    HYPERPARAMETERS = "HyperParameters"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOrder:
    """What the submitter of a job asked for, together with what its definition says."""

    queue: str
    """ARN, as is the definition."""
    definition: str
    created_at: str
    team: str | None = None
    """Its share identifier."""
    command: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    """For the command's `Ref::` words."""
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    attempt_seconds: int | None = None
    priority: int | None = None
    """Within its share."""
    role: str | None = None
    """ARN of a training job's role, as are the next four of training jobs alone."""
    instance_type: str | None = None
    """The one type that a job on spot asks for."""
    num_nodes: int = 1
    is_isolated: bool = False
    """Its containers reach no network."""
    inputs: frozenset[ContainerInput] = frozenset()

    @property
    def copies_first(self) -> bool:
        """Whether SageMaker copies channels or checkpoints to the machines before the containers start."""
        return not self.inputs.isdisjoint({ContainerInput.CHANNELS, ContainerInput.CHECKPOINTS})


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A Batch job as it is now. Times are ISO 8601, UTC."""

    job_id: str
    name: str
    status: JobStatus
    order: JobOrder
    status_reason: str | None = None
    stopped_at: str | None = None
    attempts: tuple[JobAttempt, ...] = ()
    """In order, the running one included."""
    array_size: int | None = None
    """Number of children, if it is an array."""
    array_index: int | None = None
    """Which child of an array it is, if it is one; the id is then `<array's id>:<index>`, and the name the array's."""
    billed_seconds: int | None = None
    """What SageMaker bills of each machine, at its on-demand price, of a job that has ended; Batch does not tell."""
    instance_type: str | None = None
    """What SageMaker's machines of the job are, as soon as it is settled; of its hosts, Batch does not tell."""
    preparations: tuple[tuple[str, str | None], ...] = ()
    """From when to when SageMaker prepared machines on which no container ran yet; None: it still does."""

    @property
    def has_ended(self) -> bool:
        """Whether Batch will do nothing more for this job."""
        return self.status in (JobStatus.SUCCEEDED, JobStatus.FAILED)


class Ledger(Protocol):
    """The truth about runs. Reads are consistent."""

    def create(self, run: Run) -> Run:
        """Record a new run. Repeating the very same is no error.

        Raises:
            Conflict: if the run id is taken by another run.
        """

    def get(self, run_id: str) -> Run | None:
        """Return the run, or None."""

    def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return those of up to 100 runs that there are and can be read, in the order of the ids."""

    def advance(self, run: Run, **changes: Any) -> Run:
        """Write `changes` and return the new version. None removes a field.

        Raises:
            Conflict: if the run is no longer at `run.version`.
        """

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        """Return the attempts in the order in which they ran."""

    def record_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Write `changes` to an attempt, which need not exist yet.

        Raises:
            Conflict: if the attempt is no longer at `attempt.version`.
        """

    def record_interruption(self, interruption: Interruption, *, expires_at: int) -> None:
        """Add what AWS announced about an instance; what is known already stays. `expires_at`: Unix seconds."""

    def interruption_of(self, instance_id: str) -> Interruption | None:
        """Return what AWS announced about an instance, or None."""

    def list_runs(self, listing: str, limit: int) -> tuple[Run, ...]:
        """Return the newest runs under a heading ("open" or "closed"); may lag some seconds."""

    def open_runs(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Yield the open runs, or those behind one, oldest first, read in pages; may lag some seconds."""

    def position(self, listing: str) -> Position | None:
        """Return how far the sweeper has come in a listing; None: it has never begun."""

    def keep_position(self, listing: str, position: Position) -> None:
        """Record how far the sweeper has come. The last to write counts: a repetition costs a second look, no more."""

    def record_start(self, queue: str, *, at: str) -> None:
        """Record that a job of the queue got a machine, unless a later start is known."""

    def last_start(self, queue: str) -> str | None:
        """Return when a job of the queue got a machine last, as far as it was seen; None: never."""

    def take_submission_slot(self, *, second: int, team: str, limit: int, team_limit: int) -> bool:
        """Count one submission of a Unix second, unless that is `limit` already, or `team_limit` by this team."""

    def append_event(self, run_id: str, event: HistoryEvent) -> None:
        """Append to the run's history; a second delivery of the same event changes nothing."""

    def history(self, run_id: str) -> tuple[HistoryEvent, ...]:
        """Return the run's history, oldest first."""


class OthersJobs(Protocol):
    """The record of jobs on our queues that are no runs of ours."""

    def record(self, job: "OthersJob", *, expires_at: int) -> bool:
        """Write what is known of a job, unless more is known, or as much by a later look.

        `expires_at`: Unix seconds. Returns whether there was news beside the time of the look.
        """

    def list_jobs(self, limit: int) -> "tuple[OthersJob, ...]":
        """Return the newest, newest first; may lag some seconds."""


class Sweeps(Protocol):
    """Sweeps and their members, all at once. Reads are consistent."""

    def create(self, sweep: "SweepRecord") -> "SweepRecord":
        """Record a sweep that is not there yet, and return the one of that name that is there now."""

    def get(self, name: str) -> "SweepRecord | None":
        """Return the sweep, or None."""

    def mark_sent(self, sweep: "SweepRecord", *, at: str | None) -> "SweepRecord":
        """Record that SubmitJob is called for the sweep's array now; None: that call had no effect.

        Raises:
            Conflict: if somebody called it since the sweep was read.
        """

    def create_members(self, runs: Sequence[Run]) -> None:
        """Record up to 100 new members; those that are there already stay as they are.

        Raises:
            Conflict: if an id is taken by a run that is no such member.
        """

    def members(self, sweep: "SweepRecord") -> Iterator[Run]:
        """Yield the members that are recorded, by index."""


class JobService(Protocol):
    """AWS Batch, or SageMaker training behind the same operations."""

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job (parameters of SubmitJob or CreateTrainingJob) and return its id. Never repeats by itself.

        Raises:
            ReplyLost: the job may exist; look it up by name.
            NameTaken: a job of the name exists; look up whose it is.
            Refused: AWS rejects the request.
        """

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the queue's jobs with exactly this name, newest last; a job of the last seconds may be missing.

        Raises:
            NoSuchQueue: there is no such queue.
        """

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now, or None if Batch does not know it (any more)."""

    def terminate(self, job_id: str, reason: str) -> None:
        """Cancel or stop a job; `reason` becomes its status reason. No error for a job that has ended."""

    def withdraw(self, job_id: str, reason: str) -> None:
        """Cancel a job that waits for a machine; one that has one meanwhile goes on. No error if it has ended."""


class Batch(JobService, Protocol):
    """AWS Batch, and SageMaker training behind the same operations: the request, queue or job id tells which."""

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return those of up to 100 jobs of AWS Batch that it knows, in any order.

        One that is missing may be there all the same: `describe` tells.
        """


class TrainingJobs(Protocol):
    """The environment's training jobs on SageMaker, of whomever."""

    def in_progress(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Yield the ids of those that have not ended, or of those behind one, oldest first, read in pages."""


class Checkpoints(Protocol):
    """What is known of a run's checkpoints without opening them."""

    def newest_step(self, run_id: str) -> int | None:
        """Return the step of the newest committed checkpoint, or None if there is none."""


class Mirrors(Protocol):
    """What has arrived in S3 of runs whose containers reach no network; keys are those within a run's mirror."""

    def newest_whole(self, run_id: str) -> "Commit | None":
        """Return the newest checkpoint of which everything has arrived, at the time when it was made; None: none."""

    def completion(self, run_id: str) -> "CompletionRecord | None":
        """Return the record by which an attempt says that its program has finished; None until all of that is there."""

    def outlived(self, run_id: str, *, keep: int) -> Iterator[Sequence[str]]:
        """Yield what belongs to checkpoints older than the `keep` newest of which everything has arrived, in pages.

        Pages are to be deleted in this order. Where fewer have arrived whole, there are none.
        """

    def delete(self, run_id: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete a page of `outlived`; return what was refused, and why. What is not there counts as deleted."""


class Budgets(Protocol):
    """What may be spent, and what is set aside. Reads are consistent; amounts are micro-dollars."""

    def get(self, holder: str) -> Budget | None:
        """Return a holder's budget, or None if it was never opened."""

    def open(self, budget: Budget) -> Budget:
        """Record the budget of a holder that has none, and return the one that the holder has now."""

    def set_limits(self, budget: Budget, *, fallback: int, total: int, is_deployed: bool = False) -> Budget:
        """Set both limits, and return the budget as it is then.

        `is_deployed`: they are what the settings say; otherwise they are a person's word.

        Raises:
            Conflict: somebody set one since the budget was read.
        """

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        """Write `changes` to the run and set the money aside with every holder, or do nothing at all.

        The holders in `exempt` are charged, but not asked. `switch` is the kill switch as it was read; None for spot,
        which it does not concern.

        Raises:
            Conflict: the run is no longer at `run.version`, or the submission has a reservation.
            SwitchedOff: the switch was turned since.
            OverBudget: naming the first holder that has too little left.
        """

    def extend(self, reservation: Reservation, microusd: int) -> Reservation:
        """Set so much more aside for the same submission.

        Raises:
            Conflict: the reservation is no longer at its version, or settled.
            OverBudget: naming the first holder that has too little left.
        """

    def roll_over(
        self, reservation: Reservation, spent_microusd: int, *, holders: tuple[str, ...], microusd: int, at: str
    ) -> Reservation:
        """Book what was spent with those that hold the reservation, and set so much aside with those of a new month.

        Raises:
            Conflict: the reservation is no longer at its version, or settled.
            OverBudget: naming the first holder that has too little left.
        """

    def settle(self, reservation: Reservation, spent_microusd: int, *, at: str) -> Reservation:
        """Book what was spent, and give the rest back to every holder, once.

        Raises:
            Conflict: the reservation is no longer at its version, or settled.
        """

    def reservations(self, run_id: str) -> tuple[Reservation, ...]:
        """Return a run's reservations in the order of its submissions."""

    def get_many(self, entries: Sequence[Listed]) -> tuple[Reservation, ...]:
        """Return those of up to 100 reservations that there are, in the order of the entries."""

    def unsettled(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Yield the reservations that are not settled, or those behind one, oldest first; may lag some seconds."""

    def switch(self) -> Switch:
        """Return the kill switch of on-demand."""

    def turn(self, switch: Switch, *, is_off: bool, reason: str | None) -> Switch:
        """Turn the kill switch, and return it as it is then.

        Raises:
            Conflict: somebody turned it since it was read.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """Everything that moving a run needs of the world."""

    ledger: Ledger
    budgets: Budgets
    batch: Batch
    checkpoints: Checkpoints
    terms: "EnvironmentTerms"
    """What the environment has settled; a value, not a port."""
    others: OthersJobs | None = None
    """None: nobody keeps a record of jobs that are no runs."""
    training_jobs: Callable[[], TrainingJobs] | None = None
    """Called when they are looked through. None: nobody looks for training jobs that Spotkeeper did not create."""
    mirrors: Mirrors | None = None
    """None: no run is without network."""
    spot_prices: "SpotPrices | None" = None
    """None: nobody asks what spot cost, as people's own commands do not when they move a run."""
