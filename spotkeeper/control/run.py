"""A run and its attempts, as the ledger holds them, and the states through which a run moves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

from spotkeeper.contract.ledger import (
    FINAL_STATES,
    LISTING_CLOSED,
    LISTING_OPEN,
    LIVE_STATES,
    RESTING_STATES,
    RunState,
)
from spotkeeper.contract.training import service_of
from spotkeeper.policy.placement import Mode
from spotkeeper.policy.reservation import longest_start_seconds

SUCCESSORS: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType(
    {
        RunState.SUBMITTING: frozenset({RunState.SUBMITTED, RunState.RUNNING, *RESTING_STATES, *FINAL_STATES}),
        RunState.SUBMITTED: frozenset({RunState.RUNNING, *RESTING_STATES, *FINAL_STATES}),
        RunState.RUNNING: frozenset({*RESTING_STATES, *FINAL_STATES}),
        RunState.WAITING: frozenset({RunState.PARKED, RunState.PAUSED, *FINAL_STATES}),
        RunState.PARKED: frozenset(FINAL_STATES),
        RunState.PAUSED: frozenset(FINAL_STATES),
        RunState.SUCCEEDED: frozenset(),
        RunState.FAILED: frozenset(),
        RunState.CANCELLED: frozenset(),
    }
)
"""The state machine within a submission. An attempt may claim (RUNNING) before the reply to SubmitJob is recorded
(SUBMITTED), and a run that is found complete succeeds wherever it stands."""

SUBMITTED_AGAIN_FROM: Final[frozenset[RunState]] = frozenset({RunState.SUBMITTED, RunState.RUNNING, *RESTING_STATES})
"""From these the next submission may begin, in SUBMITTING: the job of the last one has ended."""


class Lack(StrEnum):
    """For want of what a run waits, or is parked."""

    CAPACITY = "capacity"
    """AWS had no machine."""
    MONEY = "money"
    """A cap does not allow it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """The record by which an attempt proves that its program finished."""

    epoch: int
    completed_at: str
    step: int | None = None
    """Last step of a program that uses the library."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What the user asked for, pinned when it starts, and how far it has come. Times are ISO 8601, UTC."""

    run_id: str
    created_at: str
    environment: str
    """Name of the Spotkeeper environment."""
    team: str
    profile: str
    market: str
    """Market of the current submission: "spot" or "on-demand"."""
    job_queue: str
    job_definition: str
    """ARN with revision; on SageMaker, which has none, the image by digest."""
    command: tuple[str, ...]
    variables: Mapping[str, str]
    """Environment variables of the container, the same in every submission."""
    attempt_seconds: int
    """Longest time that one attempt may run; Batch stops it then."""
    image: str | None = None
    """`repository@sha256:…` where the user chose one; else the job definition's."""
    source_sha256: str | None = None
    mode: str = Mode.BUDGET_FIRST.value
    """What gives way when money and time are short: see `policy.placement.Mode`."""
    fallback_cap_microusd: int = 0
    """What the run may spend on on-demand, as submitted; its budget in the ledger says what the cap is now."""
    total_cap_microusd: int | None = None
    """What it may spend in all; None: no cap of its own."""
    deadline_at: str | None = None
    """When it is to be complete; None: as soon as spot allows."""
    work_seconds: int | None = None
    """How long all of it takes on one machine; the deadline is kept by this."""
    num_steps: int | None = None
    """How many steps all of it has; without it no work counts as done until all is."""
    sweep: str | None = None
    """The sweep whose member it is: a group of runs with caps of their own."""
    sweep_fallback_cap_microusd: int | None = None
    sweep_total_cap_microusd: int | None = None
    priority: int | None = None
    """Among the runs of its team, 0 to 9999, higher first; None: the job definition's."""
    num_nodes: int = 1
    """Machines that train together; more than one on SageMaker alone."""
    is_isolated: bool = False
    """Its containers reach no network: the control plane claims for them, and their checkpoints leave by the mirror."""
    array_index: int | None = None
    """Of a member whose first submission is a child of the sweep's array job."""

    version: int = 1
    """Rises with every write; every write names the version it read."""
    state: RunState = RunState.SUBMITTING
    submission: int = 1
    epoch: int = 0
    job_id: str | None = None
    claimed_job_id: str | None = None
    claimed_attempt: int | None = None
    claimed_at: str | None = None
    completion: Completion | None = None
    cancel_requested_at: str | None = None
    pause_requested_at: str | None = None
    """The user wants it paused; its job is stopping."""
    intent_at: str | None = None
    """When the intent of the current submission was recorded; None for the first, which is as old as the run."""
    wait_until: str | None = None
    """In WAITING: when it is decided again."""
    committed_step: int | None = None
    """The newest committed step when the last job ended."""
    num_stalls: int = 0
    """Submissions in a row that ended without a newer committed step."""
    num_capacity_waits: int = 0
    """Waits for capacity in a row. On SageMaker one comes after a whole row of types, not after each."""
    num_money_waits: int = 0
    """Waits for money in a row."""
    lacks: str | None = None
    """A `Lack`, in WAITING and PARKED; None: something else, or only a person knows."""
    dry_since: str | None = None
    """Since when spot has given it no machine; None: since it was created."""
    instance_type: str | None = None
    """The one type to ask for on SageMaker's spot, now or when the run is back there; None: the profile's first."""
    segment_seconds: int | None = None
    """Time limit of the current submission's attempt, where that is shorter than `attempt_seconds`."""
    over_cap_microusd: int | None = None
    """By how much the current submission's reservation crosses the run's own cap, where it does."""
    num_sends: int = 0
    """How often SubmitJob was called for the current submission on on-demand, and may have taken effect."""
    sent_at: str | None = None
    """When it was called last, or for the standby; None: soon after the intent, or never."""
    refused_at: str | None = None
    """When AWS Batch refused SubmitJob for the current submission, of which an earlier call may have had effect."""
    on_demand_since: str | None = None
    """Since when it has been on on-demand without a break."""
    highest_reserved: int | None = None
    """The highest number of a submission for which money was set aside, written with that; None: for none."""
    highest_submission: int | None = None
    """The highest number given to a submission, where a standby has a higher one than the run."""

    standby_submission: int | None = None
    """Number of the standby that waits on spot for this run; None: there is none."""
    standby_job_id: str | None = None
    standby_ready_at: str | None = None
    """When the standby got its machine; written by itself."""
    handover_asked_at: str | None = None
    """When the standby asked for the run; whoever holds it saves and yields."""
    standby_ended_at: str | None = None
    """When the last standby that came to nothing ended."""
    num_failed_standbys: int = 0
    """Standbys in a row that came to nothing."""
    waits_since: str | None = None
    """Since when its job waits for a machine; None: it has one, or the run has no job. Every claim removes it."""
    starting_since: str | None = None
    """Since when its job was seen STARTING: it has a machine, and its container does not run yet."""
    waits_why: str | None = None
    """What AWS says of that, if it says anything."""
    job_unknown_since: str | None = None
    """Since when AWS does not know its job."""
    closed_at: str | None = None
    reason: str | None = None
    """Why the run is in its state, for people; `why` says more of a run with a job."""

    @property
    def is_closed(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    @property
    def highest(self) -> int:
        """The highest number given to a submission of this run: the next is one above."""
        return max(self.submission, self.highest_submission or 0)

    @property
    def limit_seconds(self) -> int:
        """After how long Batch ends an attempt of the current submission."""
        return self.segment_seconds or self.attempt_seconds

    @property
    def is_array_child(self) -> bool:
        """Whether the current submission is a child of the sweep's array job; every later one is a job of its own."""
        return self.array_index is not None and self.submission == 1

    @property
    def longest_start_seconds(self) -> int:
        """How long its job may be STARTING: without network it waits for its channels and its mirror's checkpoints."""
        return longest_start_seconds(copies_first=self.is_isolated)

    @property
    def is_live(self) -> bool:
        """Whether the current submission's job exists or is about to."""
        return self.state in LIVE_STATES

    @property
    def needs_person(self) -> bool:
        """Whether only a person moves the run on."""
        return self.state in (RunState.PARKED, RunState.PAUSED)

    @property
    def why(self) -> str | None:
        """Why the run is where it is, for people: what its job waits for, where it has one that does."""
        if self.is_live and self.job_unknown_since is not None:
            return f"{service_of(self.job_queue)} does not know job {self.job_id} (since {self.job_unknown_since})"
        if self.is_live and self.waits_since is not None:
            because = f": {self.waits_why}" if self.waits_why else ""
            return f"its job waits for a machine ({self.market}) since {self.waits_since}{because}"
        # Why its submission was held up is over once there is a job, though it was its claim that told of it.
        return None if self.state in (RunState.SUBMITTED, RunState.RUNNING) else self.reason

    @property
    def is_complete(self) -> bool:
        """Whether the attempt of the current epoch recorded its completion."""
        return self.completion is not None and self.completion.epoch == self.epoch

    @property
    def listing(self) -> str:
        """Under which heading the run is listed."""
        return LISTING_CLOSED if self.is_closed else LISTING_OPEN

    def advanced(self, **changes: Any) -> Self:
        """Return the next version of the run.

        Raises:
            ValueError: if the state would move anywhere but forward.
        """
        state, submission = changes.get("state", self.state), changes.get("submission", self.submission)
        if submission != self.submission:
            is_next = submission == self.highest + 1 and state is RunState.SUBMITTING
            # The standby's job exists already.
            is_standby = submission == self.standby_submission and state is RunState.SUBMITTED
            is_forward = (is_next or is_standby) and self.state in SUBMITTED_AGAIN_FROM
        else:
            is_forward = state is self.state or state in SUCCESSORS[self.state]
        if not is_forward:
            raise ValueError(
                f"run {self.run_id} cannot go from {self.state} of submission {self.submission} to {state} of "
                f"submission {submission}"
            )
        return replace(self, version=self.version + 1, **changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One container of a run. Facts are added and never taken back; times are ISO 8601, UTC."""

    run_id: str
    submission: int
    attempt: int
    """Batch's number of the attempt, from 1."""
    version: int = 0
    """Rises with every write of the control plane; 0 until its first."""
    job_id: str | None = None

    # Written by the attempt itself after its claim; the market by the control plane too, since not every attempt gets
    # that far, and the type where SageMaker tells it.
    epoch: int | None = None
    claimed_at: str | None = None
    instance_id: str | None = None
    instance_type: str | None = None
    availability_zone: str | None = None
    market: str | None = None

    # Written by the control plane from what Batch says.
    started_at: str | None = None
    stopped_at: str | None = None
    exit_code: int | None = None
    """Absent when the host was lost."""
    status_reason: str | None = None
    reason: str | None = None
    """What the container runtime says, such as `OutOfMemoryError: …`."""
    job_status_reason: str | None = None
    """The job's own reason, on the last attempt of a job that ended."""
    job_billed_seconds: int | None = None
    """What SageMaker bills of each machine for all attempts of the job, on the last attempt of a job that ended."""
    log_stream: str | None = None
    warned_at: str | None = None
    """When AWS announced that it takes the instance back."""
    cause: str | None = None
    """How the attempt ended (see classify.Cause); None while it runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interruption:
    """What AWS announced about an instance."""

    instance_id: str
    warned_at: str | None = None
    """Time of the interruption warning; the instance goes two minutes later."""
    action: str | None = None
    """terminate, stop or hibernate."""
    rebalance_at: str | None = None
    """Time of a rebalance recommendation: raised risk, no promise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEvent:
    """One line of a run's append-only history."""

    at: str
    event_id: str
    """Makes a second delivery the same line."""
    kind: str
    message: str
