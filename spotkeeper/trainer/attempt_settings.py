"""What the job definition, submit, and AWS Batch or SageMaker tell `spotkeeper-exec` about its attempt."""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.names import check_run_id
from spotkeeper.policy.standby import Evidence
from spotkeeper.trainer.environment import EnvironmentReader, positive_int, positive_seconds

S3_OBJECT = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)")
SHA256 = re.compile(r"[0-9a-f]{64}")
NOTICE_SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "USR1": signal.SIGUSR1, "USR2": signal.SIGUSR2}
EVIDENCE = (names.STANDBY_AGE_SECONDS, names.STANDBY_PATIENCE_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """With what an attempt claims its run."""

    table: str
    submission: int
    job_id: str
    attempt: int | None
    """None where nobody tells it, as in SageMaker: the ledger then knows the last one of this job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The user's program as an archive."""

    uri: str
    """`s3://bucket/key`, or the absolute path where SageMaker has brought it."""
    sha256: str
    """Hexadecimal; the archive is refused if it has another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptSettings:
    """Settings of one attempt."""

    run_id: str | None
    claim: Claim | None
    """None where there is no ledger or no run: the program then just runs."""
    source: Source | None
    requirements_file: str | None
    """Path inside the source folder."""
    limit_seconds: float | None
    """Batch ends the attempt so long after its start; None if it does not."""
    checkpoint_folder: Path | None
    """Into which the program saves by itself; None for one that uses the library, or saves nothing."""
    notice_signal: signal.Signals
    """What such a program is sent when EC2 takes the host."""
    evidence: Evidence | None
    """What it goes by should it be its run's standby; None for one that was not submitted as such."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "AttemptSettings":
        """Read the settings.

        Raises:
            ValueError: naming every variable that is missing or malformed.
        """
        reader = EnvironmentReader(environ)
        run_id = reader.optional(names.RUN_ID, check_run_id)
        settings = cls(
            run_id=run_id,
            claim=_read_claim(reader) if environ.get(names.RUN_ID) and environ.get(names.LEDGER_TABLE) else None,
            source=_read_source(reader) if environ.get(names.SOURCE_URI) or environ.get(names.SOURCE_SHA256) else None,
            requirements_file=reader.optional(names.REQUIREMENTS_FILE, _path_inside),
            limit_seconds=reader.optional(names.ATTEMPT_SECONDS, positive_seconds),
            checkpoint_folder=reader.optional(names.CHECKPOINT_FOLDER, _path_inside_or_absolute),
            notice_signal=reader.optional(names.NOTICE_SIGNAL, _signal) or signal.SIGTERM,
            evidence=_read_evidence(reader) if any(environ.get(name) for name in EVIDENCE) else None,
        )
        reader.check()
        return settings


def _read_claim(reader: EnvironmentReader) -> Claim:
    because = f"{names.RUN_ID} and {names.LEDGER_TABLE} are"
    reader.required(names.CHECKPOINT_URI, str, "", because=because)
    table = reader.required(names.LEDGER_TABLE, str, "", because=because)
    submission = reader.required(names.SUBMISSION, positive_int, 1, because=because)
    training_job = reader.optional(names.TRAINING_JOB_ARN, str)
    if training_job is not None:
        return Claim(table=table, submission=submission, job_id=training_job, attempt=None)
    return Claim(
        table=table,
        submission=submission,
        job_id=reader.required(names.BATCH_JOB_ID, str, "", because=because),
        attempt=reader.required(names.BATCH_JOB_ATTEMPT, positive_int, 1, because=because),
    )


def _read_source(reader: EnvironmentReader) -> Source:
    because = f"{names.SOURCE_URI} and {names.SOURCE_SHA256} go together"
    uri = reader.required(names.SOURCE_URI, _s3_object_or_path, "", because=because)
    return Source(uri=uri, sha256=reader.required(names.SOURCE_SHA256, _sha256, "", because=because))


def _read_evidence(reader: EnvironmentReader) -> Evidence:
    age, patience = (
        reader.required(name, positive_seconds, 0.0, because=f"{' and '.join(EVIDENCE)} go together")
        for name in EVIDENCE
    )
    return Evidence(age_seconds=age, patience_seconds=patience)


def _s3_object_or_path(text: str) -> str:
    if not S3_OBJECT.fullmatch(text) and not text.startswith("/"):
        raise ValueError("must be s3://bucket/key, or an absolute path")
    return text


def _sha256(text: str) -> str:
    if not SHA256.fullmatch(text):
        raise ValueError("must be 64 hexadecimal digits in lower case")
    return text


def _path_inside_or_absolute(text: str) -> Path:
    path = Path(text)
    if ".." in path.parts or path in (Path(), Path("/")):
        raise ValueError("must be a folder of its own, inside the working directory or absolute")
    return path


def _signal(text: str) -> signal.Signals:
    try:
        return NOTICE_SIGNALS[text.upper().removeprefix("SIG")]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(NOTICE_SIGNALS)}") from None


def _path_inside(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError("must be a path inside the source folder")
    return text
