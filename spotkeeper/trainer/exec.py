"""`spotkeeper-exec -- python train.py`: one attempt of a run, from its claim to its exit code.

It claims the run in the ledger, brings the program's source, runs it as a child, passes signals on, and says
by its exit code what became of it (`contract.exit_codes`). The standby of a run is refused its claim, brings the
source all the same, and waits to claim again. With `--checkpoint-folder DIR` it also restores and commits what the
program saves there by itself. It is made for PID 1 of a Linux container. Without `SPOTKEEPER_RUN_ID` or without a
ledger it just runs the program.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from botocore.exceptions import BotoCoreError

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_YIELDED
from spotkeeper.contract.handover import POLL_SECONDS
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.contract.outcome import COMPLETED, YIELDED
from spotkeeper.policy.standby import is_standby, may_be_followed
from spotkeeper.trainer.array_member import as_member, is_member
from spotkeeper.trainer.attempt_ledger import (
    AlreadyCompleteError,
    AttemptLedger,
    ClaimRefusedError,
    LedgerUnavailableError,
)
from spotkeeper.trainer.attempt_settings import EVIDENCE, AttemptSettings, Claim
from spotkeeper.trainer.aws_refusal import remedy
from spotkeeper.trainer.checkpoint import FencedError
from spotkeeper.trainer.child import FORWARDED, run_child
from spotkeeper.trainer.completion_file import CompletionFile
from spotkeeper.trainer.ending import OUR_CODES, exit_code
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.folder_mode import CheckpointsUnavailableError, FolderMode
from spotkeeper.trainer.handover import HandoverWatch
from spotkeeper.trainer.imds import Imds
from spotkeeper.trainer.node_claim import ClaimResult, NodeMissingError, ask_node, tell_nodes
from spotkeeper.trainer.outcome_file import Outcome, OutcomeFile
from spotkeeper.trainer.placement import read_placement
from spotkeeper.trainer.run_settings import DEFAULT_CHECKPOINT_URI, run_id_of
from spotkeeper.trainer.source_archive import SourceUnavailableError, fetch, install_requirements, unpack
from spotkeeper.trainer.standby import Standby
from spotkeeper.trainer.time_limit import seconds_until_warning
from spotkeeper.trainer.training_container import TrainingContainer, say_failure

USAGE = (
    "usage: spotkeeper-exec [--checkpoint-folder DIR [--notice-signal TERM|INT|USR1|USR2]] -- PROGRAM [ARGUMENT …]    "
    "for example: spotkeeper-exec -- python train.py"
)
OPTIONS = {"--checkpoint-folder": names.CHECKPOINT_FOLDER, "--notice-signal": names.NOTICE_SIGNAL}


def main(*, poll_seconds: float = POLL_SECONDS) -> None:
    """Run the attempt that the command line and the environment describe.

    Both sides of a handover look at the run every `poll_seconds`.
    """
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__, USAGE, sep="\n")
        sys.exit(0)
    # Until the program runs there is nothing to save: a signal ends the attempt, and another one takes over.
    # PID 1 would not even notice a signal that it has no handler for.
    # SageMaker takes any exit for the end of the job, and kills the container by itself when it means it.
    is_sagemaker = bool(os.environ.get(names.TRAINING_JOB_ARN))
    for number in FORWARDED:
        signal.signal(number, lambda *_: None if is_sagemaker else sys.exit(EXIT_YIELDED))
    sys.exit(_guarded(sys.argv[1:], os.environ, poll_seconds))


def _guarded(arguments: Sequence[str], environ: Mapping[str, str], poll_seconds: float) -> int:
    """Run the attempt and return its exit code, its own failures included."""
    try:
        options, command = _parse(arguments)
        own = {**as_member(environ), **options}
        container = TrainingContainer.read(own)
        if container is not None:
            own |= container.variables(own)
            own |= {name: container.path(own[name]) for name in (names.CHECKPOINT_URI, names.SOURCE_URI) if name in own}
        settings = AttemptSettings.read(own)
        if container is not None:
            container.check_checkpoints(own)
        attempt = _Attempt(command, settings, own, poll_seconds, container, lacks_own=is_member(environ))
        return attempt.run()
    except ValueError as error:
        _say(str(error))
        say_failure(environ, str(error))
        return EXIT_REFUSED
    except BotoCoreError as error:
        # What is not caught closer to its call: a client that cannot even be made.
        _say(f"{error} {remedy(error) or ''}".rstrip())
        return EXIT_REFUSED
    except (LedgerUnavailableError, SourceUnavailableError, CheckpointsUnavailableError, NodeMissingError) as error:
        # An outage passes, and this is the code that Batch, or the control plane, tries again.
        _say(f"gives up for now: {error}")
        return EXIT_YIELDED


def _is_script(word: str) -> bool:
    return word.endswith((".py", ".sh"))


def _say(sentence: str) -> None:
    print(f"spotkeeper-exec: {sentence}", file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options, as the environment variables that mean the same, and the program with its arguments."""
    given, options = list(arguments), {}
    while given and (option := given[0].partition("=")[0]) in OPTIONS:
        _, equals, value = given.pop(0).partition("=")
        if not equals:
            value = given.pop(0) if given else ""
        options[OPTIONS[option]] = value
    command = given[1:] if given[:1] == ["--"] else given
    if not command or command[0].startswith("-"):
        raise ValueError(f"no program to run. {USAGE}")
    return options, command


class _Attempt:
    """One attempt; `run` reads as what happens in it."""

    def __init__(
        self,
        command: list[str],
        settings: AttemptSettings,
        environ: Mapping[str, str],
        poll_seconds: float,
        container: TrainingContainer | None,
        *,
        lacks_own: bool,
    ) -> None:
        """`lacks_own`: the run's own variables are not in its environment, but come with the claim."""
        limit_seconds = settings.limit_seconds
        self._started_at = time.monotonic()
        self._terminate_at = self._started_at + seconds_until_warning(limit_seconds) if limit_seconds else None
        self._command = command
        self._settings = settings
        self._environ = dict(environ)
        self._poll_seconds = poll_seconds
        self._container = container
        """None where SageMaker does not run the attempt."""
        self._lacks_own = lacks_own
        self._market: str | None = None
        self._imds = Imds.from_environ(environ)
        self._epoch: int | None = None
        self._log = EventLog(settings.run_id or "", None)
        self._ledger: AttemptLedger | None = None
        """Of node 0, which speaks for all."""
        if settings.run_id and settings.claim and not self._follows:
            self._ledger = AttemptLedger(settings.run_id, settings.claim)
        self._record = self._completion_file()

    def _completion_file(self) -> CompletionFile | None:
        """Return where a run without network says that it is complete; None for every other."""
        folder = self._environ.get(names.CHECKPOINT_URI, "")
        run_id, container = self._settings.run_id, self._container
        if not run_id or not container or self._settings.claim or not folder or "://" in folder:
            return None
        return CompletionFile(Path(folder), run_id)

    @property
    def _follows(self) -> bool:
        """Whether this is a node other than node 0."""
        return self._container is not None and self._container.node_rank > 0

    def run(self) -> int:
        try:
            is_ours = self._take_run()
            with tempfile.TemporaryDirectory(prefix="spotkeeper-", ignore_cleanup_errors=True) as folder:
                self._bring_source(Path(folder))
                if not is_ours:
                    code = self._stand_by()
                    if code is not None:
                        return code
                return self._run_program(Path(folder) / "outcome.json")
        except AlreadyCompleteError as error:
            self._log.write(LogEvent.COMPLETED, step=error.step, reason=str(error))
            return EXIT_COMPLETED
        except (ClaimRefusedError, FencedError) as error:
            reason = error.reason if isinstance(error, FencedError) else str(error)
            self._log.write(LogEvent.FENCED, reason=reason)
            return EXIT_FENCED

    def _take_run(self) -> bool:
        """Claim the run where there is a ledger; tell whether it is ours. Its standby waits for that."""
        if self._record is not None and (record := self._record.read(self._log)) is not None:
            raise AlreadyCompleteError(record["step"])
        if self._settings.claim is not None and self._follows:
            self._follow_claim()
        if self._ledger is None or self._settings.claim is None:
            return True
        try:
            self._claim(self._ledger, self._settings.claim)
        except ClaimRefusedError as error:
            if not is_standby(error.view, submission=self._settings.claim.submission):
                raise
            return False
        return True

    def _stand_by(self) -> int | None:
        """Wait for the run as its standby. Return None once it is ours, otherwise the exit code."""
        assert self._ledger is not None
        assert self._settings.claim is not None
        if self._settings.evidence is None:
            raise ValueError(f"{' and '.join(EVIDENCE)} are not set, although this attempt is the standby of its run")
        standby = Standby(
            self._ledger,
            self._log,
            self._imds,
            submission=self._settings.claim.submission,
            evidence=self._settings.evidence,
            started_at=self._started_at,
            poll_seconds=self._poll_seconds,
        )
        code = standby.wait()
        if code is None:
            self._claim(self._ledger, self._settings.claim)
        return code

    def _claim(self, ledger: AttemptLedger, claim: Claim) -> None:
        placement = self._placement()
        try:
            claimed = ledger.claim()
        except AlreadyCompleteError as error:
            # Otherwise the others would wait for this node, on machines that are paid for.
            self._tell_nodes(ClaimResult(is_complete=True, completed_step=error.step))
            raise
        self._epoch, self._market = claimed.epoch, claimed.market
        self._log = EventLog(self._log.run_id, self._epoch)
        self._log.write(
            LogEvent.CLAIMED, submission=claim.submission, attempt=claimed.attempt, job_id=claim.job_id, **placement
        )
        given = {**(claimed.variables if self._lacks_own else {}), names.EPOCH: str(self._epoch)}
        self._environ |= given
        with suppress(LedgerUnavailableError, ValueError):  # the run is ours; where it runs, Batch can tell as well
            ledger.record_placement(self._epoch, placement)
        self._tell_nodes(ClaimResult(variables=given))

    def _placement(self) -> dict[str, str]:
        if self._container is None:
            return read_placement(self._imds)
        # SageMaker's hosts are not the account's, and their metadata service is out of reach.
        return {"instance_type": self._container.instance_type} if self._container.instance_type else {}

    def _tell_nodes(self, result: ClaimResult) -> None:
        container = self._container
        if container is not None and len(container.hosts) > 1:
            port = container.port(self._environ)
            tell_nodes(result, host=container.current_host, port=port, others=len(container.hosts) - 1)

    def _follow_claim(self) -> None:
        container = self._container
        assert container is not None
        port = container.port(self._environ)
        result = ask_node(name=container.current_host, host=container.hosts[0], port=port)
        if result.is_complete:
            raise AlreadyCompleteError(result.completed_step)
        self._environ |= result.variables
        self._epoch = int(self._environ[names.EPOCH])
        self._log = EventLog(self._log.run_id, self._epoch)

    def _bring_source(self, folder: Path) -> None:
        settings = self._settings
        program = Path.cwd()
        if settings.source is not None:
            program = folder / "source"
            fetch(settings.source, folder / "source.tar.gz")
            unpack(folder / "source.tar.gz", program)
            os.chdir(program)
        if settings.requirements_file is not None:
            install_requirements(program, settings.requirements_file, folder / "requirements")
            paths = [str(folder / "requirements"), self._environ.get("PYTHONPATH", "")]
            self._environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

    def _run_program(self, outcome_path: Path) -> int:
        outcome_file = OutcomeFile(outcome_path)
        folder = self._folder_mode()
        with self._handover_watch(outcome_file) as watch, folder or nullcontext():
            end = run_child(
                self._command,
                {**self._environ, names.OUTCOME_FILE: str(outcome_path)},
                reason_to_stop=lambda: self._reason_to_stop(watch, folder),
                stop_signal=self._settings.notice_signal if folder else signal.SIGTERM,
                ask_at=self._terminate_at,
            )
            is_told = end.forwarded and self._reason_to_stop(watch, folder) is None
        outcome = outcome_file.read()
        code = exit_code(end.returncode, outcome.outcome if outcome else None, end.forwarded)
        if folder is not None:
            code = folder.finish(end, code)
        if code == EXIT_COMPLETED:
            self._complete(outcome)
        elif code == EXIT_YIELDED and (outcome is None or outcome.outcome != YIELDED):
            sent = [signal.Signals(number).name for number in sorted(end.forwarded)]
            self._log.write(LogEvent.YIELDED, reason=", ".join(sent))
            if is_told and self._container is not None:
                self._container.stay()  # the library does so by itself
        elif code == EXIT_INCOMPLETE:
            _say("the program exited 0 before its last step: to stop early, call run.finish() and let the loop end")
        elif end.returncode in OUR_CODES and code != end.returncode:
            _say(f"the program exited {end.returncode}, a code of spotkeeper's own, by itself: exits {code} instead")
        return code

    def _folder_mode(self) -> FolderMode | None:
        if self._settings.checkpoint_folder is None:
            return None
        return FolderMode(
            self._settings.checkpoint_folder,
            uri=self._environ.get(names.CHECKPOINT_URI) or DEFAULT_CHECKPOINT_URI,
            run_id=self._settings.run_id or run_id_of(next(filter(_is_script, self._command), self._command[0])),
            epoch=self._epoch,
            imds=self._imds,
        )

    def _handover_watch(self, outcome_file: OutcomeFile) -> AbstractContextManager[HandoverWatch | None]:
        if self._ledger is None or not may_be_followed(self._market):
            return nullcontext()

        def is_complete() -> bool:
            outcome = outcome_file.read()
            return outcome is not None and outcome.outcome == COMPLETED

        return HandoverWatch(self._ledger.look, is_complete=is_complete, poll_seconds=self._poll_seconds)

    def _reason_to_stop(self, watch: HandoverWatch | None, folder: FolderMode | None) -> str | None:
        if self._terminate_at is not None and time.monotonic() >= self._terminate_at:
            return (
                f"its time limit ends this attempt {self._settings.limit_seconds:g} s after its start, without a retry"
            )
        if watch is not None and watch.must_give_way:
            return "a standby on spot has asked for this run"
        return folder.reason_to_stop() if folder else None

    def _complete(self, outcome: Outcome | None) -> None:
        step = outcome.step if outcome else None
        if self._record is not None:
            self._record.write(step)
        elif self._ledger is not None and self._epoch is not None:
            self._ledger.record_completion(self._epoch, step)
        else:
            return
        self._log.write(LogEvent.COMPLETED, step=step)


if __name__ == "__main__":
    main()
