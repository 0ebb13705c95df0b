"""Planted bugs: what the product would be without one of its rules. The simulation must find each.

A mutant is a patch of the source of a shipped module, compiled in memory, or a ledger without its atomicity. Where
another layer would make up for the missing rule, the mutant takes that layer away too and says so.
"""

import builtins
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, Final

from spotkeeper.contract import exit_codes
from spotkeeper.contract import ledger as contract
from spotkeeper.control import (
    adoption,
    array,
    backlog,
    begin,
    cancel,
    choice,
    classify,
    closing,
    cost,
    first_lease,
    glance,
    isolated,
    kill_switch,
    lookup,
    mirror_retention,
    month,
    observe,
    others,
    pause,
    reconcile,
    renew,
    requeue,
    reservations,
    reserve,
    rounds,
    service_breaker,
    settle,
    shortage,
    standby,
    submission_rate,
    submit,
    sweep,
    training_request,
    training_types,
    unknown_job,
    waits,
)
from spotkeeper.control.aws import mirrors, training_jobs
from spotkeeper.control.budget import Reservation, Switch
from spotkeeper.control.listing import Listed
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market
from spotkeeper.trainer import array_member, checkpoint, ending
from tests.simulation.budget_table import BudgetTable
from tests.simulation.fakes import LedgerTable, Watcher
from tests.simulation.programs import Programs


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug, and the programs that have it."""

    what: str
    programs: Programs


Patches = tuple[tuple[str, str], ...]
"""Each a text, and what takes its place."""


def patched(module: ModuleType, *patches: tuple[str, str]) -> ModuleType:
    """Return a copy of the module in whose source each text, found once, is replaced."""
    return _copied(module, patches, importing=__import__)


def control(patches: Mapping[ModuleType, Patches]) -> dict[str, Any]:
    """Return copies of the control functions that import one another, some of them patched, by field of `Programs`."""
    copies: dict[str, ModuleType] = {}

    def importing(name: str, *arguments: Any) -> Any:
        module = copies.get(name) or __import__(name, *arguments)
        wanted = arguments[2] if len(arguments) > 2 and arguments[2] else ()
        parts = {part: copies[f"{name}.{part}"] for part in wanted if f"{name}.{part}" in copies}
        return SimpleNamespace(**{**{part: getattr(module, part) for part in wanted}, **parts}) if parts else module

    for module in CONTROL:
        copies[module.__name__] = _copied(module, patches.get(module, ()), importing=importing)
    names = {name.rpartition(".")[2]: copy for name, copy in copies.items()}
    return {field.name: names[field.name] for field in fields(Programs) if field.name in names}


def _copied(module: ModuleType, patches: Patches, *, importing: Callable[..., Any]) -> ModuleType:
    source = inspect.getsource(module)
    for old, new in patches:
        found = source.count(old)
        if found != 1:
            raise ValueError(f"{module.__name__} has {old!r} {found} times, not once: adapt the mutant to the code")
        source = source.replace(old, new)
    copy = ModuleType(module.__name__, module.__doc__)
    copy.__dict__["__builtins__"] = {**vars(builtins), "__import__": importing}
    exec(compile(source, f"mutant of {module.__name__}", "exec"), copy.__dict__)
    return copy


class LastWriteWins(LedgerTable):
    """Writes whatever version the writer has read."""

    def advance(self, run: Run, changes: Mapping[str, Any], writer: str) -> Run:
        after = run.advanced(**changes)
        stored = self.runs[run.run_id]
        self.put_run(replace(stored, **{"version": stored.version + 1, **changes}), writer)
        return after


CONTROL: Final = (
    classify, waits, lookup, cost, submission_rate, reserve, month, first_lease, training_request, isolated,
    shortage, training_types, submit, standby, closing, observe, others,
    adoption, backlog, cancel, mirror_retention, begin, pause, requeue, choice, settle, array, renew, kill_switch,
    reservations, unknown_job, reconcile, glance, rounds, service_breaker, sweep,
)  # fmt: skip
"""Each imports those before it only."""

JOB_FENCE: Final = ('" AND (attribute_not_exists(#job) OR #job = :job)"', '""')
CANCEL_FENCE: Final = ('" AND attribute_not_exists(#cancel)"', '""')
COMPLETION_FENCE: Final = ('" AND attribute_not_exists(#completion)"', '""')
CLAIM_STATES: Final = ("f\" AND #state IN ({', '.join(live)})\"", '""')
COMPLETION_STATES: Final = ("f\"#epoch = :epoch AND #state IN ({', '.join(live)})\"", '"#epoch = :epoch"')
COMPLETION_EPOCH: Final = ('f"#epoch = :epoch AND #state', 'f"#state')
ATTEMPT_FENCE: Final = (
    '" AND (attribute_not_exists(#claimed_job) OR #claimed_job <> :job OR #claimed_attempt <= :attempt)"',
    '""',
)
PAUSE_FENCE: Final = ('" AND attribute_not_exists(#pause)"', '""')
UNKNOWN_IS_ENDED: Final = (
    ("    job = batch.describe(job_id)\n", "    job = batch.describe(job_id) or _ended(job_id)\n"),
    (
        "def correct_causes(",
        """
def _ended(job_id: str) -> Job:
    from spotkeeper.control.ports import JobStatus
    return Job(job_id=job_id, name=job_id.partition(".")[0], status=JobStatus.FAILED)

def correct_causes(""",
    ),
)
ANY_CHILD: Final[Mapping[ModuleType, Patches]] = {
    lookup: (
        ("(member_id(sweep, job.array_index), 1)", "(member_id(sweep, (job.array_index + 1) % 2), 1)"),
        ("or job.array_index != index:", "or (job.array_index is None) != (index is None):"),
    )
}
LATE_CALL: Final = (
    "    if run.submission == 1 or seconds_between(run.intent_at or run.created_at, now) > PROMPT_SECONDS:",
    "    if not run:",
)
INTERRUPTED_IS_ENDED: Final = (
    '    status = _ENDED.get(detail["TrainingJobStatus"], _status(detail["SecondaryStatus"]))',
    """
    status = _ENDED.get(detail["TrainingJobStatus"], _status(detail["SecondaryStatus"]))
    status = JobStatus.FAILED if detail["SecondaryStatus"] == INTERRUPTED else status
""",
)
STOPPING_IS_ENDED: Final = (
    INTERRUPTED_IS_ENDED[0],
    """
    status = _ENDED.get(detail["TrainingJobStatus"], _status(detail["SecondaryStatus"]))
    status = JobStatus.FAILED if detail["SecondaryStatus"] == "Stopping" else status
""",
)
INTENT_LAST: Final = (
    "    ports.ledger.create(run)\n",
    """
    job_id = ports.batch.submit(job_request(run))
    return _record(ports.ledger.create(run), job_id, ledger=ports.ledger, batch=ports.batch)
""",
)


class Credulous(BudgetTable):
    """Reserves whatever is asked for."""

    def _require(self, asked: Mapping[str, int], market: Market) -> None:
        pass


class Unturnable(BudgetTable):
    """Does not ask whether the switch is the one that was read."""

    def reserve(
        self, run: Run, reservation: Reservation, *, switch: Switch | None, exempt: Collection[str] = (), **changes: Any
    ) -> Run:
        assert switch is None or switch.generation <= self.turned.generation
        return super().reserve(run, reservation, switch=self.turned, exempt=exempt, **changes)


class Forgetful(BudgetTable):
    """Settles what is settled, and lists it as unsettled, which would hide that."""

    def unsettled(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        for run_id, submission in sorted(self.reserved):
            if behind is None:
                created_at = self.reserved[run_id, submission].created_at
                yield Listed(created_at=created_at, run_id=run_id, submission=submission)

    def _stored(self, reservation: Reservation) -> Reservation:
        return self.reserved[reservation.run_id, reservation.submission]


def _with_money(kind: type[BudgetTable]) -> Callable[[], type[LedgerTable]]:
    class Table(LedgerTable):
        def __init__(self, watcher: Watcher) -> None:
            super().__init__(watcher)
            self.money = kind(self.check, self.advance, self._money_changed)

    return lambda: Table


def _mutant(
    what: str, patches: Mapping[ModuleType, Patches] | None = None, **programs: Callable[[], Any]
) -> Callable[[], Mutant]:
    return lambda: Mutant(
        what, Programs(**(control(patches) if patches else {}), **{name: make() for name, make in programs.items()})
    )


def _of(module: ModuleType, *patches: tuple[str, str]) -> Callable[[], ModuleType]:
    return lambda: patched(module, *patches)


MUTANTS: Final[Mapping[str, Callable[[], Mutant]]] = MappingProxyType(
    {
        # The claim and the completion record
        "any-job-claims": _mutant(
            "the claim does not ask which job holds the run",
            contract=_of(contract, JOB_FENCE),
        ),
        "older-attempt-claims": _mutant(
            "the claim does not ask for the attempt's number",
            contract=_of(contract, ATTEMPT_FENCE),
        ),
        "cancelled-run-claimed": _mutant(
            "the claim does not ask whether the run is cancelled",
            contract=_of(contract, CANCEL_FENCE),
        ),
        "ended-run-claimed": _mutant(
            "the claim does not ask for the run's state",
            contract=_of(contract, CLAIM_STATES),
        ),
        "complete-run-claimed": _mutant(
            "the claim does not ask whether the run is complete",
            contract=_of(contract, COMPLETION_FENCE),
        ),
        "epoch-stays": _mutant(
            "the claim does not raise the epoch",
            contract=_of(contract, ("#epoch = #epoch + :one", "#epoch = :one")),
        ),
        "old-epoch-completes": _mutant(
            "an attempt of an older epoch may write the completion record",
            contract=_of(contract, COMPLETION_EPOCH),
        ),
        "ended-run-completed": _mutant(
            "an attempt whose run has ended may write the completion record",
            contract=_of(contract, COMPLETION_STATES),
        ),
        # The commit protocol and the exit code
        "zombie-commits": _mutant(
            "no look at newer epochs before the manifest is created",
            checkpoint=_of(
                checkpoint,
                ("        self._refuse_if_fenced()\n        key = manifest_key", "        key = manifest_key"),
            ),
        ),
        "oldest-checkpoint": _mutant(
            "the oldest valid checkpoint is resumed",
            checkpoint=_of(
                checkpoint,
                (
                    "in reversed(self._manifest_keys()):\n            try:",
                    "in self._manifest_keys():\n            try:",
                ),
            ),
        ),
        "exit-0-after-signal": _mutant(
            "a program that exits 0 when told to stop counts as complete",
            ending=_of(ending, ("return EXIT_YIELDED if forwarded else EXIT_INCOMPLETE", "return EXIT_COMPLETED")),
        ),
        "paused-run-claimed": _mutant(
            "the claim does not ask whether the run is paused",
            contract=_of(contract, PAUSE_FENCE),
        ),
        # Observing
        "exit-0-is-success": _mutant(
            "a job that SUCCEEDED makes success, record or not; it shows by a fenced attempt that exits 0",
            {
                reconcile: (
                    (
                        "    closed = close_if_over(run, ports=ports, at=ended_at)\n",
                        """
    if job.status == "SUCCEEDED":
        return _closed(close(run, RunState.SUCCEEDED, ledger=ports.ledger, at=ended_at))
    closed = close_if_over(run, ports=ports, at=ended_at)
""",
                    ),
                )
            },
            exit_codes=_of(exit_codes, ("EXIT_FENCED: Final = 76", "EXIT_FENCED: Final = 0")),
        ),
        "twin-speaks": _mutant(
            "an observation does not ask which job holds the run",
            {observe: (("    if holder != job.job_id:\n", "    if not holder:\n"),)},
        ),
        "old-twin-speaks": _mutant(
            "an observation does not ask which job held an older submission",
            {observe: (("return next((item.job_id for item", "return None and next((item.job_id for item"),)},
        ),
        "name-is-believed": _mutant(
            "a look-up takes a job of the right name for the run's, whoever submitted it",
            {lookup: (("for job in named if is_job_of(run, submission, job))", "for job in named)"),)},
        ),
        "observed-name-is-believed": _mutant(
            "an observation takes a job of the right name for the run's, whoever submitted it",
            {observe: ((" or not is_job_of(run, named[1], job):", ":"),)},
        ),
        "surplus-goes-on": _mutant(
            "a job that its run does not want is left to itself, though its container may hang",
            {
                reconcile: (
                    ("    if folded.is_surplus and not job.has_ended:", "    if folded.is_surplus and not job:"),
                )
            },
        ),
        "attempt-ends-job": _mutant(
            "the end of an attempt is taken for that of its job, although Batch retries",
            {reconcile: (("        if job.has_ended:", "        if folded.last and folded.last.stopped_at:"),)},
        ),
        "requeued-while-running": _mutant(
            "a run is submitted again while its job runs",
            {reconcile: (("        if job.has_ended:", '        if job.has_ended or job.status == "RUNNING":'),)},
        ),
        "unknown-is-ended": _mutant(
            "a job that Batch does not know at the moment is taken for one that has ended",
            {observe: UNKNOWN_IS_ENDED},
        ),
        "last-attempt-forgotten": _mutant(
            "the last attempt of a job is not recorded",
            {
                observe: (
                    (
                        "    added = False\n    for number, told in enumerate(job.attempts, start=1)",
                        "    added = False\n    for number, told in enumerate(job.attempts[:-1], start=1)",
                    ),
                )
            },
        ),
        "late-warning-ignored": _mutant(
            "a warning that comes after the attempt's end is recorded does not count",
            {observe: (("and merged.warned_at is None and", "and attempt.cause is None and"),)},
        ),
        # Submitting again
        "no-sweeper": _mutant(
            "nobody looks after runs whose events are lost",
            {sweep: (("lambda last: ledger.open_runs(behind=last)", "lambda _: iter(())"),)},
        ),
        "sweeps-never-begin-again": _mutant(
            "a sweep goes on where the last stopped, and at the end of the listing stays there",
            {rounds: (("self._entries(start))\n        self._begin()\n", "self._entries(start))\n        return\n"),)},
        ),
        "ended-job-is-quiet": _mutant(
            "the sweeper's glance takes a job that has ended for one that needs nothing",
            {
                glance: (
                    (" or job.has_ended:", ":"),
                    ("    if not observe.is_recorded(", "    if not job.has_ended and not observe.is_recorded("),
                )
            },
        ),
        "half-a-sweeper": _mutant(
            "the sweeper looks at jobs only, not at submissions that were cut off",
            {
                reconcile: (
                    (
                        "    if run.state is RunState.SUBMITTING:\n        return _fin",
                        "    if False:\n        return _fin",
                    ),
                )
            },
        ),
        "nobody-wakes-the-waiting": _mutant(
            "a run that waits is not submitted when it is due",
            {reconcile: (("    if run.state is RunState.WAITING and is_due(run, now):", "    if False:"),)},
        ),
        "requeue-unconditional": _mutant(
            "the next submission begins whatever version was read",
            {
                reconcile: (
                    (
                        "    begun = begin.on_spot(run, ports=ports, now=now, **counts)",
                        """
    run = ports.ledger.get(run.run_id) or run
    begun = begin.on_spot(run, ports=ports, now=now, **counts)""",
                    ),
                )
            },
        ),
        "stalls-uncounted": _mutant(
            "a run that makes no progress is submitted again for ever",
            {requeue: (("stalls = history.num_stalls + 1", "stalls = history.num_stalls"),)},
        ),
        "capacity-parks": _mutant(
            "waits for capacity count as submissions without progress, and park the run",
            {
                requeue: (
                    (
                        "            waits = 0 if",
                        "            return _go_on(ending, history, budget, now)\n            waits = 0 if",
                    ),
                )
            },
        ),
        "progress-unseen": _mutant(
            "submissions that saved more count as submissions without progress",
            {requeue: (("    if history.has_progressed:", "    if False:"),)},
        ),
        "limiter-ignored": _mutant(
            "a job is submitted although this second has no slot",
            {
                submit: (
                    (
                        "    if is_limited and not may_submit(",
                        "    if may_submit is None and not may_submit(",
                    ),
                )
            },
        ),
        "limiter-too-wide": _mutant(
            "the handlers together submit more jobs a second than there are slots",
            {submission_rate: (("SUBMISSIONS_PER_SECOND: Final = 32", "SUBMISSIONS_PER_SECOND: Final = 80"),)},
        ),
        "silent-park": _mutant(
            "a run is parked without saying why",
            {
                reconcile: (
                    (
                        '"wait_until": decision.wait_until, "reason": decision.reason',
                        '"wait_until": decision.wait_until',
                    ),
                )
            },
        ),
        # Submitting, pausing and cancelling
        "no-intent": _mutant(
            "the job is submitted before the run is recorded",
            {submit: (INTENT_LAST,)},
        ),
        "throttled-is-refused": _mutant(
            "a throttled SubmitJob closes the run",
            {
                submit: (
                    ("    except Throttled:", "    except ZeroDivisionError:"),
                    ("    except Refused as refusal:", "    except (Refused, Throttled) as refusal:"),
                )
            },
        ),
        "no-look-up": _mutant(
            "a lost submission is repeated without a look-up; the fence of jobs, which hides it, is gone too",
            {
                submit: (
                    (
                        "        if jobs:\n            return _record",
                        "        if jobs and False:\n            return _record",
                    ),
                )
            },
            contract=_of(contract, JOB_FENCE),
        ),
        "cancel-unrecorded": _mutant(
            "cancel stops the job without recording the wish",
            {
                cancel: (
                    (
                        "    run = _request(run_id, ledger=ports.ledger, now=now)",
                        "    run = ports.ledger.get(run_id)\n    assert run",
                    ),
                )
            },
        ),
        "cancel-over-completion": _mutant(
            "a complete run is cancelled all the same",
            {closing: (("    if run.is_complete:", "    if run.is_complete and run.cancel_requested_at is None:"),)},
        ),
        "pause-forgets-the-job": _mutant(
            "a run rests as soon as its pause is wished for, although its job still stops",
            {
                pause: (
                    (
                        "PAUSE_REASON)\n                return run\n",
                        "PAUSE_REASON)\n                return ports.ledger.advance(run, **paused())\n",
                    ),
                )
            },
        ),
        "resume-mid-run": _mutant(
            "resume submits a run again although its job goes on",
            {pause: (("    if not run.is_live:", "    if run.job_id is not None or not run.is_live:"),)},
        ),
        # Money
        "nothing-reserved": _mutant(
            "a run goes to on-demand without a reservation",
            {
                begin: (
                    (
                        "    return _with_room(run, reserve.on_demand(run, placed, ports=ports, now=now), ports, now)",
                        """
    queue = ports.terms.profiles[run.profile].on_demand_queue
    return ports.ledger.advance(run, **{**placed, "market": "on-demand", "job_queue": queue})""",
                    ),
                )
            },
        ),
        "cap-unasked": _mutant(
            "money is reserved without the condition that enough is left",
            {
                reserve: (
                    (
                        "    seconds = _longest_seconds(run, price, hard, ports)",
                        "    seconds = _longest_seconds(run, price, hard, ports) or 3000",
                    ),
                )
            },
            table=_with_money(Credulous),
        ),
        "deadline-crosses-every-cap": _mutant(
            "a run that values its deadline crosses the caps of the environment too",
            {
                reserve: (
                    (
                        "exempt = {budget.holder for budget in budgets} - {budget.holder for budget in hard}",
                        "exempt = {budget.holder for budget in budgets} if hard != budgets else set()",
                    ),
                    (
                        "    seconds = _longest_seconds(run, price, hard, ports)",
                        "    seconds = _longest_seconds(run, price, hard, ports) or 3000",
                    ),
                )
            },
        ),
        "switch-unread": _mutant(
            "a reservation does not ask for the generation of the kill switch",
            table=_with_money(Unturnable),
        ),
        "switch-unread-at-all": _mutant(
            "nobody asks whether on-demand is switched off",
            {reserve: (("    if switch.is_off:", "    if False:"),)},
        ),
        "sent-without-end": _mutant(
            "SubmitJob is called again while its replies are lost; look-ups and adoption, which hide it, are gone too",
            {
                observe: (("    if submission == run.submission and run.job_id is None:", "    if not submission:"),),
                submit: (
                    ("    if run.num_sends > MOST_TWINS:", "    if False:"),
                    (
                        "        if jobs:\n            return _record",
                        "        if jobs and False:\n            return _record",
                    ),
                ),
            },
        ),
        "on-demand-retried": _mutant(
            "a job on on-demand has the attempts of one on spot",
            {submit: (('request["retryStrategy"] = {"attempts": 1}', "pass"),)},
        ),
        "settled-at-once": _mutant(
            "a reservation is settled although a job of its name may still show up",
            {settle: (("reservation, jobs), now) < LOOK_UP_SECONDS:", "reservation, jobs), now) < 0:"),)},
        ),
        "settled-while-running": _mutant(
            "a reservation is settled although its submission goes on",
            {
                settle: (
                    (" or is_open(run, reservation.submission):", ":"),
                    ("    if running or seconds", "    if seconds"),
                    ("    for job in running:\n        ports.batch.terminate(job.job_id, TWIN_REASON)\n", ""),
                ),
                reservations: (
                    ("    if not is_open(run, submission):", "    if not is_open(run, submission) or True:"),
                ),
            },
        ),
        "twin-unpaid": _mutant(
            "only the run's own job is settled",
            {
                settle: (
                    (
                        "    known = run.job_id if run",
                        (
                            "    named = tuple(job for job in named if job.job_id == run.job_id)\n"
                            "    known = run.job_id if run"
                        ),
                    ),
                )
            },
        ),
        "start-failure-free": _mutant(
            "a container that could not start costs nothing",
            {cost: (("    began_at = started_at or stopped_at", "    began_at = started_at"),)},
        ),
        "hostless-free": _mutant(
            "a job that ended before it had a container costs nothing",
            {cost: (("        if job.has_ended and not job.attempts and", "        if not job.has_ended and"),)},
        ),
        "start-without-end": _mutant(
            "a job that hangs in STARTING is left to itself",
            {reconcile: (("    elif waits.is_stuck(run, job", "    elif not run and waits.is_stuck(run, job"),)},
        ),
        "start-unbooked": _mutant(
            "what a host is billed while its container hangs is not booked",
            {cost: (("_before_first(job, until) if is_on_demand", "_before_first(job, until) if not is_on_demand"),)},
        ),
        "month-without-end": _mutant(
            "a lease stays with the month in which it began",
            {month: (("and month_of(now) > reservation.month", "and not now"),)},
        ),
        "sweep-unleased": _mutant(
            "only the run that names a sweep's cap keeps to it",
            {reserve: (("    return any(is_total_capped(holder", "    return False and any(is_total_capped(holder"),)},
        ),
        "crossing-untold": _mutant(
            "a run that values its deadline crosses its cap in silence",
            {submit: (("        ports.ledger.append_event(run.run_id, cap_crossed(run))", "        pass"),)},
        ),
        "denied-is-refused": _mutant(
            "a run fails or is parked because whoever submits it is not allowed to",
            {submit: (("    except NotAllowed as refusal:", "    except ZeroDivisionError as refusal:"),)},
        ),
        "refused-at-once": _mutant(
            "a call that is refused ends the run although an earlier one may have had effect",
            # With the note of a late call, settling finds the job and stops it: each layer hides the other. Without the
            # note alone nothing shows in thousands of seeds: tests/control/test_leases.py holds that rule.
            {submit: (("        if is_first:", "        if True:"), LATE_CALL)},
        ),
        "name-given-twice": _mutant(
            "every training job of a run is asked for by the same name, which SageMaker gives once",
            {training_request: (("run.run_id, run.submission)", "run.run_id, 1)"),)},
        ),
        "interrupted-is-ended": _mutant(
            "a training job that SageMaker starts again by itself counts as over",
            training_jobs=_of(training_jobs, INTERRUPTED_IS_ENDED),
        ),
        "stopping-is-ended": _mutant(
            "a training job that is told to stop counts as over, although its containers still save",
            training_jobs=_of(training_jobs, STOPPING_IS_ENDED),
        ),
        "one-service-fails-both": _mutant(
            "jobs of AWS Batch are not read while SageMaker describes none of its own",
            {
                service_breaker: (
                    ("self._num_failed[service] >= MOST", "max(self._num_failed.values(), default=0) >= MOST"),
                ),
                sweep: (("self._turns.append((name, self._went", "self._turns.appendleft((name, self._went"),),
            },
        ),
        "quoted-exit-code-counts": _mutant(
            "of a training job that failed, an exit code that its program quotes is taken for its own",
            training_jobs=_of(training_jobs, ("int(found[-1])", "int(found[0])")),
        ),
        "failure-without-code-goes-on": _mutant(
            "a program whose failure leaves no room for its exit code is started again",
            {classify: (("attempt.exit_code is None and _says(attempt, _ALGORITHM_ERROR)", "not attempt"),)},
        ),
        "type-passed-over": _mutant(
            "after a type without machines the last of the row is asked for",
            {training_types: (("    return later[0] if later", "    return later[-1] if later"),)},
        ),
        "quota-unconditional": _mutant(
            "what follows from a quota is written whatever version was read",
            {
                submit: (
                    (
                        "    except QuotaReached as refusal:\n",
                        "    except QuotaReached as refusal:\n        run = ledger.get(run.run_id) or run\n",
                    ),
                )
            },
        ),
        "type-left-with-its-machines": _mutant(
            "a run whose type had machines asks for the next all the same",
            {
                choice: (
                    (
                        (
                            "        return Choice(decision=decision, market=Market.SPOT)\n"
                            "    if decision.action is Action.WAIT"
                        ),
                        (
                            "        type_ = training_types.following(run, ports.terms)\n"
                            "        return Choice(decision=decision, market=Market.SPOT, instance_type=type_)\n"
                            "    if decision.action is Action.WAIT"
                        ),
                    ),
                )
            },
        ),
        "billed-seconds-unread": _mutant(
            "a training job costs nothing when it is settled",
            {cost: (("money.cost_microusd(price, job.billed_seconds)", "0"),)},
        ),
        "one-node-is-paid": _mutant(
            "of two machines that train together, one is settled",
            {cost: (("min(price * run.num_nodes, dearest)", "min(price, dearest)"),)},
        ),
        "taken-name-tried-for-ever": _mutant(
            "a name that somebody else's training job has is asked for again and again",
            {submit: (("            if isinstance(lost, NameTaken):", "            if not lost:"),)},
        ),
        "on-demand-without-quota-for-ever": _mutant(
            "a run to which on-demand may give no machine asks on-demand again, and never spot",
            {reconcile: ((" and run.market == Market.SPOT:  # where on-demand", ":  # where on-demand"),)},
        ),
        "quota-is-refusal": _mutant(
            "a run whose type has no quota is closed, though another type may have",
            {submit: (("    except QuotaReached as refusal:", "    except ZeroDivisionError as refusal:"),)},
        ),
        "type-without-time": _mutant(
            "a training job makes way for the next type as soon as it is seen waiting",
            {training_types: (("    return waited_seconds >= profile.training.starting_seconds", "    return True"),)},
        ),
        "wait-counts-from-the-intent": _mutant(
            "a run waits for machines from when its job was to be submitted, however late that came about",
            {
                waits: (
                    ("max(run.intent_at or run.created_at, job.order.created_at)", "run.intent_at or run.created_at"),
                )
            },
        ),
        # Runs without network
        "record-before-checkpoint": _mutant(
            "a run is complete by its record alone, though its last checkpoint was lost on its way",
            mirrors=_of(
                mirrors,
                ("    if manifest is not None and not self.has_arrived", "    if not told and self.has_arrived"),
            ),
        ),
        "half-arrived-counts": _mutant(
            "a checkpoint of which only the manifest has arrived counts as whole",
            mirrors=_of(
                mirrors,
                (
                    "        return all(there.get(name) == size for",
                    "        return True or all(there.get(name) == size for",
                ),
            ),
        ),
        "late-observer-claims": _mutant(
            "who has read a job before it was interrupted claims for the attempt that is over",
            {isolated: (("number <= (run.claimed_attempt or 0)", "number == run.claimed_attempt"),)},
        ),
        "mirror-cleared-too-far": _mutant(
            "of a mirror, only the newest checkpoint stays",
            {mirror_retention: (("keep=DEFAULT_KEEP)", "keep=1)"),)},
        ),
        "never-settled": _mutant(
            "nobody tends reservations",
            {sweep: (("lambda last: budgets.unsettled(behind=last)", "lambda _: iter(())"),)},
        ),
        "settled-twice": _mutant(
            "what is settled may be settled again",
            {
                settle: (("    if reservation.settled_at is not None or is_open", "    if is_open"),),
                reservations: (
                    (" or reservation.settled_at is not None:", ":"),
                    ("    if reservation.settled_at is not None:", "    if False:"),
                ),
            },
            table=_with_money(Forgetful),
        ),
        # Standby and fallback
        "standby-claims": _mutant(
            "a standby claims the run while another attempt holds it; the fence of jobs, which hides it, is gone too",
            contract=_of(
                contract,
                JOB_FENCE,
                ('"#submission = :submission"', '"attribute_not_exists(#nothing)"'),
                ('"#submission": "submission",', '"#nothing": "nothing",'),
            ),
        ),
        "standby-takes-over-early": _mutant(
            "a standby takes the run over as soon as it has asked for it",
            {
                reconcile: (
                    ("        if job.has_ended:", "        if job.has_ended or run.handover_asked_at is not None:"),
                )
            },
        ),
        "standby-number-reused": _mutant(
            "the next submission has the number of a standby before",
            {submit: (('"submission": run.highest + 1,', '"submission": run.submission + 1,'),)},
        ),
        "backlog-is-drought": _mutant(
            "a job is withdrawn for want of capacity although its queue gives machines to others",
            {
                backlog: (("    started_at = last_start(queue)", "    started_at: str | None = None"),),
            },
        ),
        "spot-never-again": _mutant(
            "a run that on-demand is too dear for never asks spot again",
            {
                reconcile: (
                    ("        if is_dry:", "        if True:"),
                    ('after(now, counts["num_capacity_waits"])', "after(now, run.num_capacity_waits)"),
                    ('counts["num_capacity_waits"] + 1}', "run.num_capacity_waits + 1}"),
                )
            },
        ),
        "money-is-drought": _mutant(
            "a wait for money counts as one for capacity, and leads to on-demand",
            {reconcile: (("    if run.lacks == Lack.CAPACITY and", "    if run.lacks is not None and"),)},
        ),
        # Sweeps
        "array-sent-again": _mutant(
            "the array is submitted again although it was sent",
            {array: (("    if sweep.sent_at is not None:", "    if sweep.sent_at is not None and not members:"),)},
        ),
        "array-unannounced": _mutant(
            "the array is submitted before its record says so",
            {
                array: (
                    (
                        "mark_sent(sweep, at=now)\n    try:\n        array_id = ports.batch.submit(request)\n",
                        (
                            "get(sweep.name)\n    try:\n        array_id = ports.batch.submit(request)\n"
                            "        sweeps.mark_sent(sweep, at=now)\n"
                        ),
                    ),
                )
            },
        ),
        "array-too-late": _mutant(
            "the array is submitted although its members are about to give it up",
            {
                array: (
                    (
                        "    if any(_waits_for_array(member) and _is_too_late(member, now) for",
                        "    if any(not member for",
                    ),
                )
            },
        ),
        "array-without-intent": _mutant(
            "the members' leases are not set aside before their array is submitted",
            {array: (("    secured = [_secured(member, ports, now) for", "    secured = [member for"),)},
        ),
        "unseen-child-is-none": _mutant(
            "a child that DescribeJobs does not know at the moment is taken for none, and its member goes on by itself",
            {
                lookup: (
                    (
                        "    return tuple(_child(array, run.array_index, batch) for",
                        (
                            "    return tuple(child for array in arrays if (child := batch.describe("
                            "f'{array.job_id}:{run.array_index}')))\n"
                            "    return tuple(_child(array, run.array_index, batch) for"
                        ),
                    ),
                )
            },
        ),
        "member-alone-at-once": _mutant(
            "a member goes on by itself although its child lives",
            {
                reconcile: (
                    (
                        "    found = submit.finish(run.run_id, ports=ports, now=now)\n    if found",
                        "    found = run\n    if found",
                    ),
                )
            },
        ),
        "child-claims-for-another": _mutant(
            "a child takes the run of the next index for its own",
            array_member=_of(
                array_member, ("environ[names.SWEEP]), int(index))", "environ[names.SWEEP]), int(index) + 1)")
            ),
        ),
        "child-of-another": _mutant(
            "an observation takes a child for that of another member, and nobody compares the indices",
            ANY_CHILD,
        ),
        "late-child-adopted": _mutant(
            "a member past its first submission takes up a child that shows up late",
            {
                observe: (
                    (
                        "    if submission == run.submission and run.job_id is None:",
                        "    if run.job_id is None and (submission == run.submission or job.array_index is not None):",
                    ),
                )
            },
        ),
        "parameters-lost": _mutant(
            "a member is submitted by itself without its own parameters",
            {submit: (("        **run.variables,\n", ""),)},
        ),
        # Jobs of others
        "others-job-stopped": _mutant(
            "a job that is no run's is stopped as a twin",
            {
                reconcile: (
                    (
                        "    return others.record(unowned.job, why",
                        (
                            "    ports.batch.terminate(unowned.job.job_id, 'Twin')\n"
                            "    return others.record(unowned.job, why"
                        ),
                    ),
                )
            },
        ),
        "adopted-unasked": _mutant(
            "a job that could be a run is taken for one without its tag",
            {adoption: (("    if order.tags.get(tags.REQUEUE) != tags.REQUEUE_VALUE:", "    if not order.queue:"),)},
        ),
        "asking-ignored": _mutant(
            "a job that asks to be a run is only recorded",
            {reconcile: (("    if isinstance(adopted, Run):", "    if not isinstance(adopted, str | Run):"),)},
        ),
        "others-forgotten": _mutant(
            "the end of a job of others is not recorded",
            {others: (("        status=job.status,", "        status='RUNNING',"),)},
        ),
        "adopted-unleased": _mutant(
            "the job of an adopted run is paid from no lease, although the total is capped",
            {first_lease: (("    if not is_missing(run", "    if run or not is_missing(run"),)},
        ),
        # The ledger
        "last-write-wins": _mutant(
            "no write is conditional on the version read",
            table=lambda: LastWriteWins,
        ),
    }
)
"""By name; made on demand, because making one compiles a module."""
