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


_FENCE_OF_JOBS: Final = ('" AND (attribute_not_exists(#job) OR #job = :job)"', '""')


def _mutants() -> Mapping[str, Callable[[], Mutant]]:
    def mutant(what: str, **programs: Any) -> Callable[[], Mutant]:
        return lambda: Mutant(what, Programs(**{name: make() for name, make in programs.items()}))

    def of(module: ModuleType, *patches: tuple[str, str]) -> Callable[[], ModuleType]:
        return lambda: patched(module, *patches)

    return MappingProxyType(
        {
            "any-job-claims": mutant("the claim does not ask which job holds the run", contract=of(contract, _FENCE_OF_JOBS)),
            "older-attempt-claims": mutant(
                "the claim does not ask for the attempt's number",
                contract=of(
                    contract,
                    (
                        '" AND (attribute_not_exists(#claimed_job) OR #claimed_job <> :job OR #claimed_attempt <= :attempt)"',
                        '""',
                    ),
                ),
            ),
            "cancelled-run-claimed": mutant(
                "the claim does not ask whether the run is cancelled",
                contract=of(contract, ('" AND attribute_not_exists(#cancel)"', '""')),
            ),
            "ended-run-claimed": mutant(
                "the claim does not ask for the run's state",
                contract=of(
                    contract,
                    ("""f" AND #state IN ({', '.join(live)})\"""", '""'),
                ),
            ),
            "epoch-stays": mutant(
                "the claim does not raise the epoch", contract=of(contract, ("#epoch = #epoch + :one", "#epoch = :one"))
            ),
            "completion-of-any-epoch": mutant(
                "an attempt that is not the current one may write the completion record",
                contract=of(contract, ('f"#epoch = :epoch AND #state', 'f"#state')),
            ),
            "ended-run-completed": mutant(
                "an attempt whose run has ended may write the completion record",
                contract=of(contract, ("""f"#epoch = :epoch AND #state IN ({', '.join(live)})\"""", '"#epoch = :epoch"')),
            ),
            "zombie-commits": mutant(
                "no look at newer epochs before the manifest is created",
                checkpoint=of(checkpoint, ("        self._refuse_if_fenced()\n        key = manifest_key", "        key = manifest_key")),
            ),
            "oldest-checkpoint": mutant(
                "the oldest valid checkpoint is resumed",
                checkpoint=of(
                    checkpoint,
                    (
                        "        for key in reversed(self._manifest_keys()):\n            try:",
                        "        for key in self._manifest_keys():\n            try:",
                    ),
                ),
            ),
            "exit-0-is-success": mutant(
                "a job that SUCCEEDED makes success, record or not; exit 0 of the fenced, which this shows by, is new too",
                observe=of(observe, ("    if run.is_complete:", '    if run.is_complete or job.status == "SUCCEEDED":')),
                exit_codes=of(exit_codes, ("EXIT_FENCED: Final = 76", "EXIT_FENCED: Final = 0")),
            ),
            "exit-0-after-signal": mutant(
                "a program that exits 0 when told to stop counts as complete",
                ending=of(ending, ("return EXIT_YIELDED if forwarded else EXIT_INCOMPLETE", "return EXIT_COMPLETED")),
            ),
            "twin-speaks": mutant(
                "an observation does not ask which job holds the run",
                observe=of(observe, ("(is_current and run.job_id != job.job_id) or submission", "submission")),
            ),
            "attempt-ends-run": mutant(
                "the end of an attempt ends the run, although Batch retries",
                observe=of(
                    observe,
                    ("if job.has_ended and is_current", "if last and last.stopped_at and is_current"),
                ),
            ),
            "unknown-is-lost": mutant(
                "a job that Batch does not know at the moment is taken for a failed one",
                observe=of(
                    observe,
                    (
                        "    if job is None:\n",
                        '    gone = ledger.get(job_id.partition(".")[0].rpartition("-")[0]) if job is None else None\n'
                        "    if gone and not gone.is_closed:\n"
                        '        ledger.advance(gone, state=RunState.FAILED, closed_at=now, reason="its job is gone")\n'
                        "    if job is None:\n",
                    ),
                ),
            ),
            "no-intent": mutant(
                "the job is submitted before the run is recorded",
                submit=of(
                    submit,
                    (
                        "    return _send(ledger.create(run), ledger=ledger, batch=batch, now=now)",
                        "    job_id = batch.submit(job_request(run))\n"
                        "    return _record(ledger.create(run), job_id, ledger=ledger, batch=batch)",
                    ),
                ),
            ),
            "throttled-is-refused": mutant(
                "a throttled SubmitJob closes the run",
                submit=of(
                    submit,
                    ("    except Refused as refusal:", "    except (Refused, Throttled) as refusal:"),
                    ("Refused, ReplyLost, UnknownRun", "Refused, ReplyLost, Throttled, UnknownRun"),
                ),
            ),
            "no-look-up": mutant(
                "a lost submission is repeated without a look-up; the fence of jobs, which hides it, is gone too",
                submit=of(submit, ("    if jobs:\n        return _record", "    if jobs and False:\n        return _record")),
                contract=of(contract, _FENCE_OF_JOBS),
            ),
            "last-write-wins": mutant("no write is conditional on the version read", table=lambda: LastWriteWins),
            "cancel-unrecorded": mutant(
                "cancel stops the job without recording the wish",
                cancel=of(
                    cancel,
                    ("    run = _request(run_id, ledger=ledger, now=now)\n", "    run = ledger.get(run_id)\n    assert run\n"),
                ),
            ),
        }
    )


MUTANTS: Final = _mutants()
"""By name; made on demand, because making one compiles a module."""
