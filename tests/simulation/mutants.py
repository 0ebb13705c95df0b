"""Planted bugs: what the product would be without one of its rules. The simulation must find each.

A mutant is a patch of the source of a shipped module, compiled in memory, or a ledger without its atomicity. Where
another layer would make up for the missing rule, the mutant takes that layer away too and says so.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, ModuleType
from typing import Any, Final

from spotkeeper.contract import exit_codes
from spotkeeper.contract import ledger as contract
from spotkeeper.control import cancel, observe, submit
from spotkeeper.control.run import Run
from spotkeeper.trainer import checkpoint, ending
from tests.simulation.fakes import LedgerTable
from tests.simulation.programs import Programs


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug, and the programs that have it."""

    what: str
    programs: Programs


def patched(module: ModuleType, *patches: tuple[str, str]) -> ModuleType:
    """Return a copy of the module in whose source each text, found once, is replaced."""
    source = inspect.getsource(module)
    for old, new in patches:
        found = source.count(old)
        if found != 1:
            raise ValueError(f"{module.__name__} has {old!r} {found} times, not once: adapt the mutant to the code")
        source = source.replace(old, new)
    copy = ModuleType(module.__name__, module.__doc__)
    exec(compile(source, f"mutant of {module.__name__}", "exec"), copy.__dict__)
    return copy


class LastWriteWins(LedgerTable):
    """Writes whatever version the writer has read."""

    def advance(self, run: Run, changes: Mapping[str, Any], writer: str) -> Run:
        after = run.advanced(**changes)
        stored = self.runs[run.run_id]
        self.put_run(replace(stored, **{"version": stored.version + 1, **changes}), writer)
        return after


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
UNKNOWN_IS_LOST: Final = (
    "    if job is None:\n",
    """
    gone = ledger.get(job_id.partition(".")[0].rpartition("-")[0]) if job is None else None
    if gone and not gone.is_closed:
        ledger.advance(gone, state=RunState.FAILED, closed_at=now, reason="its job is gone")
    if job is None:
""",
)
INTENT_LAST: Final = (
    "    return _send(ledger.create(run), ledger=ledger, batch=batch, now=now)",
    """
    job_id = batch.submit(job_request(run))
    return _record(ledger.create(run), job_id, ledger=ledger, batch=batch)""",
)


def _mutant(what: str, **programs: Callable[[], Any]) -> Callable[[], Mutant]:
    return lambda: Mutant(what, Programs(**{name: make() for name, make in programs.items()}))


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
        # Observing
        "exit-0-is-success": _mutant(
            "a job that SUCCEEDED makes success, record or not; it shows by a fenced attempt that exits 0",
            observe=_of(observe, ("    if run.is_complete:", '    if run.is_complete or job.status == "SUCCEEDED":')),
            exit_codes=_of(exit_codes, ("EXIT_FENCED: Final = 76", "EXIT_FENCED: Final = 0")),
        ),
        "twin-speaks": _mutant(
            "an observation does not ask which job holds the run",
            observe=_of(observe, ("(is_current and run.job_id != job.job_id) or submission", "submission")),
        ),
        "attempt-ends-run": _mutant(
            "the end of an attempt ends the run, although Batch retries",
            observe=_of(observe, ("if job.has_ended and is_current", "if last and last.stopped_at and is_current")),
        ),
        "unknown-is-lost": _mutant(
            "a job that Batch does not know at the moment is taken for a failed one",
            observe=_of(observe, UNKNOWN_IS_LOST),
        ),
        "last-attempt-forgotten": _mutant(
            "the last attempt of a job is not recorded",
            observe=_of(observe, ("enumerate(job.attempts, start=1)", "enumerate(job.attempts[:-1], start=1)")),
        ),
        "late-warning-ignored": _mutant(
            "a warning that comes after the attempt's end is recorded does not count",
            observe=_of(observe, ("and merged.warned_at is None and", "and attempt.cause is None and")),
        ),
        # Submitting and cancelling
        "no-intent": _mutant(
            "the job is submitted before the run is recorded",
            submit=_of(submit, INTENT_LAST),
        ),
        "throttled-is-refused": _mutant(
            "a throttled SubmitJob closes the run",
            submit=_of(
                submit,
                ("    except Refused as refusal:", "    except (Refused, Throttled) as refusal:"),
                ("Refused, ReplyLost, UnknownRun", "Refused, ReplyLost, Throttled, UnknownRun"),
            ),
        ),
        "no-look-up": _mutant(
            "a lost submission is repeated without a look-up; the fence of jobs, which hides it, is gone too",
            submit=_of(
                submit, ("    if jobs:\n        return _record", "    if jobs and False:\n        return _record")
            ),
            contract=_of(contract, JOB_FENCE),
        ),
        "cancel-unrecorded": _mutant(
            "cancel stops the job without recording the wish",
            cancel=_of(
                cancel,
                ("    run = _request(run_id, ledger=ledger, now=now)", "    run = ledger.get(run_id)\n    assert run"),
            ),
        ),
        # The ledger
        "last-write-wins": _mutant(
            "no write is conditional on the version read",
            table=lambda: LastWriteWins,
        ),
    }
)
"""By name; made on demand, because making one compiles a module."""
