"""What may never happen, checked at every change; and what must have happened, checked in the end.

The names I1 to I12 are those of the design's list.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from itertools import pairwise
from typing import Final, Protocol

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.budgets import environment_holder, run_holder, sweep_holder
from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP, EPOCH_PREFIX, parse_manifest_key
from spotkeeper.contract.ledger import RESTING_STATES, RunState
from spotkeeper.contract.names import array_job_name, job_name, member_id, parse_array_job_name
from spotkeeper.control import outlook
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Cap
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.requeue import MAX_STALLS
from spotkeeper.control.run import SUBMITTED_AGAIN_FROM, SUCCESSORS, Attempt, Lack, Run
from spotkeeper.control.submission_rate import SUBMISSIONS_PER_SECOND
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import MOST_TWINS
from tests.simulation.budget_table import BudgetTable
from tests.simulation.training import SPOT_TYPES

PEOPLE: Final = ("submit ", "resume ")
"""How the names of commands begin that submit for a person."""
WITHDRAWING_SECONDS: Final = 240
"""From the look at what is known of a queue to the call that withdraws a job from it, with two slow calls."""
FACTS: Final = ("job_id", "epoch", "started_at", "stopped_at", "exit_code", "warned_at")
"""Of an attempt."""


class Violation(BaseException):
    """An invariant does not hold; the message says which, and how."""


class Holder(Protocol):
    """An attempt, for its claim."""

    name: str
    run_id: str
    is_cut_off: bool
    has_ended: bool


class Truth(Protocol):
    """What really is, as against what the ledger says."""

    def has_run(self, run_id: str) -> bool: ...
    def has_ended(self, job_id: str) -> bool: ...
    def lacked_capacity(self, job_id: str) -> bool: ...
    def has_failed_by_itself(self, job_id: str) -> bool: ...
    def lacked_quota(self, name: str) -> bool: ...
    def is_refused(self, name: str) -> bool: ...
    def has_told(self, run_id: str, event_id: str) -> bool: ...
    def has_deadline(self, run_id: str) -> bool: ...
    def has_job_of(self, run_id: str, submission: int) -> bool: ...
    def is_mirrored(self, run_id: str) -> bool: ...
    def is_wanted(self, run_id: str) -> bool: ...
    def is_of_others(self, job_id: str) -> bool: ...
    def is_job_of(self, job_id: str, run_id: str, submission: int) -> bool: ...
    def shows_child_of(self, run_id: str) -> bool: ...
    def waits_for_child(self, run_id: str) -> bool: ...
    def is_about_to_go_on_alone(self, run_id: str) -> bool: ...
    def leases_spot(self, run_id: str) -> bool: ...
    def parameter_of(self, run_id: str) -> str | None: ...
    def now(self) -> str: ...
    def longest_wait_seconds(self, job_id: str) -> float: ...


def _name(attempt: Attempt) -> str:
    return f"{attempt.run_id}-{attempt.submission}#{attempt.attempt}"


def _job_name(run: Run) -> str:
    """Return the name of the job that the run's submission asks for."""
    if run.is_array_child:
        assert run.sweep is not None
        return array_job_name(run.sweep)
    return job_name(run.run_id, run.submission)


def require(holds: bool, name: str, *what: object) -> None:
    """Raise a violation unless it holds; what is to be said of it, most of which never is, is put into words here."""
    if not holds:
        raise Violation(": ".join(map(str, (name, *what))))


class Invariants:
    """Watches ledger, bucket and attempts."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.finished: set[tuple[str, int]] = set()
        """(run, epoch) of attempts that really trained to the end; the epoch is 0 for those without network."""
        self._epochs: dict[str, int] = {}
        self._holders: dict[str, list[Holder]] = {}
        self._claimed_jobs: dict[tuple[str, str], str] = {}
        self._owners: dict[tuple[str, int], str] = {}
        self._marked: dict[str, int] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        self._commits_after_newer: dict[tuple[str, int], int] = {}
        self._steps: dict[tuple[str, int], int] = {}
        self._slots: dict[str, int] = {}
        self._money: BudgetTable | None = None
        self._reserved: set[tuple[str, int]] = set()
        self._settled: set[tuple[str, int]] = set()
        self._crossing: set[tuple[str, int]] = set()
        """Submissions for which the run's own cap was crossed."""
        self._capped_at_birth: dict[str, bool] = {}
        self._committed: dict[tuple[str, str], int] = {}
        """What was reserved and spent of a holder's cap, by the cap's name."""
        self._array_calls_left: Counter[str] = Counter()
        """How many calls of SubmitJob a sweep's record has announced that were not made."""
        self._arrays: Counter[str] = Counter()
        """By sweep: how many there are."""
        self._machines: dict[str, list[tuple[str, str]]] = {}
        """By queue: when a job got a machine, and when the ledger learnt of it."""
        self._starts: dict[str, list[int]] = {}
        """The newest checkpoint when each submission of a run began."""
        self._whole: dict[str, list[tuple[int, int]]] = {}
        """(epoch, step) of all that has arrived whole in a run's mirror, oldest first."""
        self._typed: set[tuple[str, int]] = set()
        """Submissions after which the next type was asked for."""

    # The ledger

    def run_changed(self, before: Run | None, after: Run, writer: str) -> None:
        if before is None or after.submission > before.submission:
            self._starts.setdefault(after.run_id, []).append(self.newest_checkpoint(after.run_id))
        if before is None:
            self._capped_at_birth[after.run_id] = self._is_capped(after)
        who = f"{writer} on {after.run_id}"
        self._check_standby(after, who)
        if after.job_id is not None and (before is None or after.job_id != before.job_id):
            is_own = self._truth.is_job_of(after.job_id, after.run_id, after.submission)
            require(is_own, "I2 its own job", f"{who}: submission {after.submission} takes up job {after.job_id}")
        if before is None:
            require(self._truth.is_wanted(after.run_id), "others are let be", f"{who}: nobody asked for a run")
            return
        if after.submission != before.submission:
            is_next = after.submission == before.highest + 1 and after.state is RunState.SUBMITTING
            is_standby = after.submission == before.standby_submission and after.state is RunState.SUBMITTED
            is_forward = (is_next or is_standby) and before.state in SUBMITTED_AGAIN_FROM
            require(after.submission > before.submission, "I4 states move forward", f"{who}: {after.submission}")
            self._check_fallback(before, after, who)
        else:
            is_forward = after.state is before.state or after.state in SUCCESSORS[before.state]
        require(is_forward, "I4 states move forward", f"{who}: {before.state} to {after.state}")
        if after.instance_type is not None and after.instance_type != before.instance_type:
            self._check_type(before, after.instance_type, who)
        if after.is_closed and not before.is_closed:
            self._check_end(after, who)
        if before.is_live and (not after.is_live or after.submission > before.submission):
            self._check_rest(before, after, who)
        require(after.epoch >= before.epoch, "I4 epochs rise", f"{who}: {before.epoch} to {after.epoch}")
        require(after.version > before.version, "I4 versions rise", f"{who}: {before.version} to {after.version}")
        if after.epoch > before.epoch:
            require(not before.is_closed, "I4 an ended run stays ended", f"{who}: claims a run that is {before.state}")
            require(before.cancel_requested_at is None, "I10 cancel wins", f"{who}: claims a cancelled run")
            require(before.pause_requested_at is None, "I10 pause wins", f"{who}: claims a paused run")
            require(not before.is_complete, "I1 finished work counts", f"{who}: claims a run that is complete")
        require(
            not before.is_closed or after.completion == before.completion,
            "I4 an ended run stays ended",
            f"{who}: completes a run that is {before.state}",
        )
        require(
            after.completion == before.completion or after.is_complete,
            "I2 the fenced do not complete",
            f"{who}: record of epoch {after.completion and after.completion.epoch} in epoch {after.epoch}",
        )
        require(
            before.cancel_requested_at in (None, after.cancel_requested_at),
            "I10 cancel wins",
            f"{who}: forgets the wish to cancel",
        )
        require(
            before.job_id in (None, after.job_id) or after.submission > before.submission,
            "I2 one job a submission",
            f"{who}: job {before.job_id} to {after.job_id}",
        )

    def _check_standby(self, run: Run, who: str) -> None:
        """What a standby is paid by is kept open for as long as the run names it."""
        named = (run.standby_submission, run.standby_job_id, run.standby_ready_at, run.handover_asked_at)
        is_forgotten = named == (None,) * len(named)
        require(run.is_live or is_forgotten, "I7 no standby of a run at rest", f"{who}: {run.state}, standby {named}")

    def was_capped_at_birth(self, run_id: str) -> bool:
        """Tell whether a total cap of the run or its sweep was known when the run was recorded."""
        return self._capped_at_birth[run_id]

    def _is_capped(self, run: Run) -> bool:
        """Tell whether the total of the run or its sweep is capped, as far as anybody knows."""
        if run.total_cap_microusd is not None or run.sweep_total_cap_microusd is not None:
            return True
        budgets = self._money.budgets if self._money is not None else {}
        budget = budgets.get(sweep_holder(run.sweep)) if run.sweep is not None else None
        return budget is not None and budget.total.limit != UNLIMITED_MICROUSD

    def _check_fallback(self, before: Run, after: Run, who: str) -> None:
        """A run leaves spot only when its job there was given no machine: money that is short is no such thing.

        Or when its deadline bears no further loss of one. Where on-demand may have none, it goes back to spot, and is
        not asked again before spot was.
        """
        if (before.market, after.market) == (Market.ON_DEMAND, Market.ON_DEMAND):
            is_refused = self._truth.lacked_quota(_job_name(before))
            require(not is_refused, "I6 spot is asked again", f"{who}: submission {before.submission} had no quota")
        if (before.market, after.market) != (Market.SPOT, Market.ON_DEMAND):
            return
        is_due = self._has_lacked(before) or self._is_pressed(after)
        require(is_due, "I6 on-demand for want of spot only", f"{who}: job {before.job_id} did not lack capacity")

    def _is_pressed(self, run: Run) -> bool:
        """Tell whether a start on spot that comes to nothing could cost the run its deadline, by a generous count."""
        if run.deadline_at is None or run.work_seconds is None:
            return False
        done_share = (run.committed_step or 0) / run.num_steps if run.num_steps else 0.0
        lost_seconds = float(run.variables.get(variables.MAX_LOST_SECONDS, outlook.MAX_LOST_SECONDS))
        most_seconds = (
            run.work_seconds * (1 - done_share)
            + lost_seconds
            + 2 * outlook.CHANGEOVER_SECONDS
            + outlook.ON_DEMAND_WAIT_SECONDS
            + 4 * outlook.SWEEP_SECONDS  # each of these is counted in whole sweeps
        )
        return seconds_between(self._truth.now(), run.deadline_at) < most_seconds

    def _check_type(self, before: Run, type_: str, who: str) -> None:
        """Spot on SageMaker goes from type to type in their order, each time because the one before had no machine."""
        step = f"{who}: {before.instance_type} to {type_} after submission {before.submission}"
        present = before.instance_type or SPOT_TYPES[0]
        is_next = (present, type_) in pairwise(SPOT_TYPES)
        is_first = (before.run_id, before.submission) not in self._typed
        require(is_next and is_first, "types in their order", step)
        require(self._has_lacked(before), "types in their order", f"{step}, which had machines")
        self._typed.add((before.run_id, before.submission))

    def _has_lacked(self, run: Run) -> bool:
        """Tell whether there was no machine for the run's submission."""
        if run.job_id is None:
            return self._truth.lacked_quota(_job_name(run))
        return self._truth.lacked_capacity(run.job_id)

    def _check_rest(self, before: Run, after: Run, who: str) -> None:
        """A run leaves its job only when the job has ended, and says why it rests."""
        is_over = before.job_id is None or self._truth.has_ended(before.job_id)
        require(is_over, "I5 unknown is no end", f"{who}: {after.state}, while job {before.job_id} goes on")
        is_own_failure = before.job_id is not None and self._truth.has_failed_by_itself(before.job_id)
        is_left_alone = after.is_closed or after.state is RunState.PAUSED
        require(not is_own_failure or is_left_alone, "own failures are not repeated", f"{who}: {after.state}")
        self._check_refused(before, after, who)
        if before.is_array_child and before.job_id is None and after.state is RunState.WAITING:
            is_shown = self._truth.shows_child_of(after.run_id) and not self._waits_for_money(after)
            require(not is_shown, "I5 unknown is no end", f"{who}: goes on by itself, while a look-up shows its child")
        if after.state in RESTING_STATES:
            require(bool(after.reason), "I8 nothing silent", f"{who}: {after.state} without a reason")
        if after.state is RunState.PARKED:
            self._check_park(before, after, who)
        is_timed = (after.state is RunState.WAITING) == (after.wait_until is not None)
        require(is_timed, "I1 no run is lost", f"{who}: {after.state} until {after.wait_until}")

    def _check_refused(self, before: Run, after: Run, who: str) -> None:
        """A refusal ends or parks a run only if no earlier call for the same submission has had effect."""
        is_refusal = after.state in (RunState.FAILED, RunState.PARKED) and not self._waits_for_money(after)
        if before.job_id is None and is_refusal:
            has_job = self._truth.has_job_of(before.run_id, before.submission)
            require(not has_job, "I5 unknown is no end", f"{who}: {after.state}, while a job of it goes on")

    def _check_park(self, before: Run, after: Run, who: str) -> None:
        """Only a run that cannot go on by itself is parked."""
        if self._waits_for_money(after):
            return  # whether there was really none, only the moment of the refusal knows
        if before.job_id is None:
            refused = self._truth.is_refused(_job_name(after))
            require(refused, "I1 parked for good reason", f"{who}: without a job, and not refused")
            return
        lacked = self._truth.lacked_capacity(before.job_id)
        require(not lacked, "I1 parked for good reason", f"{who}: there was no capacity")
        stale_since = self._starts[after.run_id][-MAX_STALLS:][0]
        newest = self.newest_checkpoint(after.run_id)
        require(stale_since == newest, "I1 parked for good reason", f"{who}: {newest} is newer than {stale_since}")

    def _waits_for_money(self, run: Run) -> bool:
        return run.lacks == Lack.MONEY

    def attempt_changed(self, before: Attempt, after: Attempt, writer: str) -> None:
        for name in FACTS:
            told, tells = getattr(before, name), getattr(after, name)
            require(
                told in (None, tells), "I8 facts stay", f"{writer}: {name} of {_name(after)} from {told} to {tells}"
            )

    def _check_end(self, run: Run, who: str) -> None:
        if run.state is RunState.SUCCEEDED:
            require(run.is_complete, "success needs a completion record", f"{who}: record {run.completion}")
            require(self._has_finished(run), "success needs a finished training", who)
            last_step = run.completion.step if run.is_isolated and run.completion is not None else None
            is_kept = last_step is None or last_step <= self.newest_checkpoint(run.run_id)
            require(is_kept, "I9 committed work is kept", f"{who}: step {last_step} has not left its host")
        if run.job_id is not None:
            require(self._truth.has_ended(run.job_id), "I5 unknown is no end", f"{who}: {run.state}, its job goes on")
        if run.state is RunState.FAILED:
            require(bool(run.reason), "I8 nothing silent", f"{who}: failed without a reason")
            refused = self._truth.is_refused(_job_name(run))
            require(run.job_id is not None or refused, "I5 unknown is no end", f"{who}: failed without a job")
        if run.state is RunState.CANCELLED:
            require(run.cancel_requested_at is not None, "I10 only people cancel", who)

    # Jobs and attempts

    def slot_taken(self, second: int, num_taken: int, writer: str) -> None:
        is_within = num_taken <= SUBMISSIONS_PER_SECOND
        require(is_within, "I11 submissions a second", f"{num_taken} in second {second}")
        self._slots[writer] = self._slots.get(writer, 0) + 1

    def job_requested(self, name: str, writer: str) -> None:
        """Check that a program of ours calls SubmitJob once a slot; so the slots of a second bound the calls.

        A sweep's array is submitted by its user alone, and only after its record has said so.
        """
        sweep = parse_array_job_name(name)
        if sweep is not None:
            require(self._array_calls_left[sweep] > 0, "I2 one array a sweep", f"{writer} submits {name} unannounced")
            self._array_calls_left[sweep] -= 1
        if writer.startswith(PEOPLE):
            return
        self._slots[writer] = self._slots.get(writer, 0) - 1
        require(self._slots[writer] >= 0, "I11 submissions a second", f"{writer} submits {name} without a slot")

    def sweep_marked(self, sweep: SweepRecord) -> None:
        """Note that SubmitJob may be called for its array once."""
        self._array_calls_left[sweep.name] += sweep.sent_at is not None

    def array_created(self, name: str, size: int) -> None:
        """Check that it is the sweep's only one, and that its members are recorded, and paid for, before."""
        sweep = parse_array_job_name(name)
        assert sweep is not None, "no program submits arrays of another name"
        self._arrays[sweep] += 1
        require(self._arrays[sweep] == 1, "I2 one array a sweep", f"{name} is submitted once more")
        for index in range(size):
            run_id = member_id(sweep, index)
            require(self._truth.has_run(run_id), "I1 no job without a run", f"{name} has a child {index}")
            if self._truth.waits_for_child(run_id):
                self._check_lease(run_id, 1)
                is_late = self._truth.is_about_to_go_on_alone(run_id)
                require(not is_late, "I7 settled when it is over", f"{name} is submitted when {run_id} gives it up")

    def job_stopped(self, job_id: str, writer: str) -> None:
        require(not self._truth.is_of_others(job_id), "others are let be", f"{writer} stops job {job_id}")

    def _check_lease(self, run_id: str, submission: int) -> None:
        if self._truth.leases_spot(run_id):
            reservation = self._money.reserved.get((run_id, submission)) if self._money is not None else None
            is_leased = reservation is not None and reservation.settled_at is None
            require(is_leased, "I3 reserved before it can be spent", f"{run_id}, {submission}: {reservation}")

    def job_created(self, name: str, *, is_on_demand: bool, num_jobs: int) -> None:
        """Check that the intent is recorded before the effect, and the money reserved before it can be spent."""
        run_id, _, submission = name.rpartition("-")
        require(self._truth.has_run(run_id), "I1 no job without a run", f"{name} is submitted")
        key = (run_id, int(submission))
        reservation = self._money.reserved.get(key) if self._money is not None else None
        if not is_on_demand:
            self._check_lease(run_id, int(submission))
            return
        is_told = key not in self._crossing or self._truth.has_told(run_id, f"cap-{submission}")
        require(is_told, "I8 nothing silent", f"{name} is submitted above its run's cap, and nobody was told")
        is_covered = reservation is not None and reservation.settled_at is None
        require(is_covered, "I3 reserved before it can be spent", f"{name} is submitted with {reservation}")
        is_counted = num_jobs <= 1 + MOST_TWINS
        require(is_counted, "I3 reserved before it can be spent", f"{name} is submitted for the {num_jobs}th time")

    def start_recorded(self, queue: str, at: str) -> None:
        self._machines.setdefault(queue, []).append((at, self._truth.now()))

    def job_withdrawn(self, job_id: str, queue: str) -> None:
        """Check that a job is taken out of its queue only where that gives nobody a machine, as far as was known."""
        now, limit_seconds = self._truth.now(), self._truth.longest_wait_seconds(job_id)
        for started_at, known_at in self._machines.get(queue, ()):
            is_backlog = seconds_between(started_at, now) < limit_seconds
            was_known = seconds_between(known_at, now) > WITHDRAWING_SECONDS
            require(
                not (is_backlog and was_known),
                "a backlog is no drought",
                f"{job_id} is withdrawn although {queue} gave a machine to a job at {started_at}",
            )

    # Money

    def money_changed(self, table: BudgetTable) -> None:
        """Check that every cap adds up, and that nothing was reserved beyond a hard one."""
        self._money = table
        self._check_switch(table)
        self._check_settled_ones(table)
        open_ones = [item for item in table.reserved.values() if item.settled_at is None]
        for holder, budget in table.budgets.items():
            held = [item for item in open_ones if holder in item.holders]
            for name, cap, reserved in (
                ("total", budget.total, sum(item.microusd for item in held)),
                ("fallback", budget.fallback, sum(item.fallback_microusd for item in held)),
            ):
                adds_up = cap.limit == cap.available + cap.reserved + cap.spent and min(cap.reserved, cap.spent) >= 0
                require(adds_up, "I7 money is conserved", holder, cap)
                require(cap.reserved == reserved, "I7 money is conserved", holder, cap, reserved)
                self._check_cap(holder, name, cap)

    def _check_settled_ones(self, table: BudgetTable) -> None:
        settled = {key for key, item in table.reserved.items() if item.settled_at is not None}
        for key in settled - self._settled:
            require(
                not self._truth.has_job_of(*key), "I7 settled when it is over", f"{key} is, and a job of it goes on"
            )
        self._settled = settled

    def _check_switch(self, table: BudgetTable) -> None:
        news = set(table.reserved) - self._reserved
        self._reserved |= news
        for key in news:
            is_on_demand = table.reserved[key].fallback_microusd > 0
            require(not (is_on_demand and table.turned.is_off), "I10 the kill switch wins", f"{key} is reserved")
            own = table.budgets[run_holder(key[0])]
            if is_on_demand and min(own.fallback.available, own.total.available) < 0:
                self._crossing.add(key)

    def _check_cap(self, holder: str, name: str, cap: Cap) -> None:
        """Nothing is reserved above a cap; one that was lowered below what is reserved lets nothing more through.

        A lease on spot may cost more than it was, between two sweeps; on-demand never more than its reservation, but
        for what SageMaker bills of a start that hung and could not be seen (`check_bills` holds it to the bill).
        """
        committed = cap.reserved + (cap.spent if name == "fallback" else 0)
        before = self._committed.get((holder, name), 0)
        self._committed[holder, name] = committed
        is_soft = holder.startswith("run/") and self._truth.has_deadline(holder.removeprefix("run/"))
        is_within = committed <= before or cap.available + self._beyond(holder) >= 0 or is_soft
        require(is_within, "I3 no dollar over the cap", holder, name, cap)

    def _beyond(self, holder: str) -> int:
        """Return what was booked for on-demand of a holder beyond what was reserved for it."""
        assert self._money is not None
        return sum(
            max(0, (item.spent_microusd or 0) - item.microusd)
            for item in self._money.reserved.values()
            if item.fallback_microusd > 0 and holder in item.holders
        )

    def check_bills(self, table: BudgetTable, bills: Mapping[tuple[str, int], int]) -> None:
        """In the end: what AWS bills was settled, and what was settled had been reserved, or SageMaker says so."""
        for key, billed in bills.items():
            reservation = table.reserved[key]
            require(reservation.settled_at is not None, "I7 everything is settled", f"{key}: {reservation}")
            spent = reservation.spent_microusd or 0
            require(billed <= spent, "I3 no dollar over the cap", f"{key}: billed {billed}, settled {spent}")
            is_within = spent <= max(reservation.microusd, billed)
            require(is_within, "I3 no dollar over the cap", f"{key}: settled {spent} of {reservation.microusd}")
        unsettled = list(table.unsettled())
        require(not unsettled, "I7 everything is settled", f"{unsettled}")

    def check_month(self, table: BudgetTable, month: str, used: int) -> None:
        """In the end: what leased spot used of a month was booked there."""
        budget = table.budgets.get(environment_holder(month))
        spent = budget.total.spent if budget is not None else 0
        require(used <= spent, "I7 each month pays its own hours", f"{month}: used {used}, booked {spent}")

    def claimed(self, holder: Holder, run: Run) -> Run:
        """Check that nobody else holds the run, but for containers that Batch has given up."""
        holders = self._holders.setdefault(holder.run_id, [])
        others = [other.name for other in holders if other is not holder and not other.is_cut_off]
        require(not others, "I2 never two", f"{holder.name} claims {holder.run_id} while {others} holds it")
        if holder not in holders:
            holders.append(holder)
        submission = f"{run.run_id}-{run.submission}"
        job_id = holder.name.partition("#")[0]
        holding_job = self._claimed_jobs.setdefault((run.run_id, submission), job_id)
        require(holding_job == job_id, "I2 twins never both train", f"{holding_job} and {job_id} claimed {submission}")
        owner = self._owners.setdefault((run.run_id, run.epoch), holder.name)
        require(owner == holder.name, "I2 one writer an epoch", f"{owner} and {holder.name} have epoch {run.epoch}")
        self._epochs[holder.name] = run.epoch
        return run

    def trains_alone(self, holder: Holder) -> None:
        """Check the fence of an attempt that can claim nothing: that nobody else trains for its run."""
        holders = self._holders.setdefault(holder.run_id, [])
        require(not holders, "I2 never two", f"{holder.name} starts while {[one.name for one in holders]} trains")
        holders.append(holder)
        self._epochs[holder.name] = 0

    def given(self, holder: Holder, parameter: str | None) -> None:
        """Check that the program of an attempt is given what is its run's own."""
        own = self._truth.parameter_of(holder.run_id)
        require(parameter == own, "its own parameters", f"{holder.name} is given {parameter}, not {own}")

    def left(self, holder: Holder) -> None:
        """Note that an attempt has ended."""
        holders = self._holders.get(holder.run_id, [])
        if holder in holders:
            holders.remove(holder)

    def trained(self, holder: Holder) -> None:
        """Note that an attempt has trained to the end."""
        self.finished.add((holder.run_id, self._epochs[holder.name]))

    def _has_finished(self, run: Run) -> bool:
        return (run.run_id, 0 if run.is_isolated else run.epoch) in self.finished

    # Checkpoints

    def newest_checkpoint(self, run_id: str) -> int:
        """Return the step of the run's newest checkpoint, 0 if there is none."""
        return self._newest.get(run_id, (0, 0))[1]

    def resumed(self, holder: Holder, step: int, *, at_least: int) -> None:
        require(step >= at_least, "I9 committed work is kept", f"{holder.name} resumes after {step}, not {at_least}")
        self._steps[holder.run_id, self._epochs[holder.name]] = step

    def object_created(self, key: str, writer: str) -> None:
        if key.startswith(EPOCH_PREFIX):
            _, run_id, marked = key.split("/")
            self._marked[run_id] = max(self._marked.get(run_id, 0), int(marked))
            return
        position = parse_manifest_key(key)
        if position is None:
            return
        run_id, (epoch, step) = key.split("/")[1], position
        if self._marked.get(run_id, 0) > epoch:
            late = self._commits_after_newer[run_id, epoch] = self._commits_after_newer.get((run_id, epoch), 0) + 1
            # The marker is looked for before the manifest is created: one commit may be on its way.
            require(late == 1, "I2 the fenced do not commit", f"{writer} commits {key} after a newer epoch has started")
        before = self._steps.get((run_id, epoch), 0)
        require(step > before, "I9 committed steps rise", f"{writer} commits step {step} after {before}")
        self._steps[run_id, epoch] = step
        self._newest[run_id] = max(self._newest.get(run_id, (0, 0)), position)

    def mirror_changed(self, run_id: str, whole: list[tuple[int, int]]) -> None:
        """Check that of what has arrived whole in a mirror, the newest stays."""
        kept = self._whole.get(run_id, [])[-DEFAULT_KEEP:]
        require(set(kept) <= set(whole), "I9 committed work is kept", f"mirror of {run_id}: of {kept}, {whole} is left")
        self._whole[run_id] = whole
        self._newest[run_id] = max([self._newest.get(run_id, (0, 0)), *whole])

    def mirror_cleared(self, run_id: str, writer: str) -> None:
        """Check that whoever deletes in a mirror does so while nobody mirrors."""
        is_mirrored = self._truth.is_mirrored(run_id)
        require(not is_mirrored, "a mirror is cleared between jobs", f"{writer} does, and a job of {run_id} goes on")

    # The end

    def check_settled(self, runs: Iterable[Run], *, unable: Container[str]) -> None:
        """After faults have ceased: every run has ended, and ended right; only one that is unable to end is parked."""
        for run in runs:
            is_parked = run.state is RunState.PARKED and run.run_id in unable and run.num_stalls >= MAX_STALLS
            require(run.is_closed or is_parked, "I1 no run is lost", f"{run.run_id} is {run.state} for ever")
            trained = self._has_finished(run) and run.is_complete
            if trained:
                require(run.state is RunState.SUCCEEDED, "I1 finished work counts", f"{run.run_id} is {run.state}")
            elif run.cancel_requested_at is not None:
                require(run.state is not RunState.SUCCEEDED, "I10 cancel wins", f"{run.run_id} is {run.state}")
