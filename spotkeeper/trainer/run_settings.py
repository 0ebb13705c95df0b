"""What a run's surroundings decide for it: everything that the user's code does not say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.names import check_run_id
from spotkeeper.trainer.environment import EnvironmentReader, positive_int, positive_seconds
from spotkeeper.trainer.rank_settings import RankSettings

DEFAULT_CHECKPOINT_URI = "checkpoints"
DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>s|m|h)")
SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """Settings of the library, read once when a `Run` is made."""

    run_id: str
    """On a laptop, where nobody gives one, the program's own name: two programs in one folder stay apart."""
    checkpoint_uri: str
    epoch: int | None
    """The fencing number that the ledger gave this attempt; None without a ledger."""
    outcome_file: Path | None
    max_lost_seconds: float | None
    """What the submitter asked for. It goes before what the code says, so that nobody must edit code."""
    progress_seconds: float
    environment: str | None
    """Name of the environment that deployed the job; None elsewhere, where nobody reads metrics."""
    is_sagemaker: bool
    """Whether SageMaker runs the container: it takes any exit, whatever the code, for the end of the job."""
    ranks: RankSettings | None
    """None for a process that trains alone."""

    @classmethod
    def read(cls, environ: Mapping[str, str], program: str) -> "RunSettings":
        """Read the settings of the program at path `program`.

        Raises:
            ValueError: naming every variable that is missing or malformed.
        """
        if folder := environ.get(names.CHECKPOINT_FOLDER):
            raise ValueError(
                f"spotkeeper-exec commits what this program saves into {folder!r}, and spotkeeper.Run must not commit "
                "too: leave out --checkpoint-folder, or the library"
            )
        reader = EnvironmentReader(environ)
        run_id = reader.optional(names.RUN_ID, check_run_id)
        epoch = reader.optional(names.EPOCH, positive_int)
        if environ.get(names.RUN_ID) and environ.get(names.LEDGER_TABLE) and not epoch:
            reader.required(names.EPOCH, positive_int, 1, because="the run has a ledger: start it by spotkeeper-exec")
        settings = cls(
            run_id=run_id or run_id_of(program),
            checkpoint_uri=environ.get(names.CHECKPOINT_URI) or DEFAULT_CHECKPOINT_URI,
            epoch=epoch,
            outcome_file=reader.optional(names.OUTCOME_FILE, Path),
            max_lost_seconds=reader.optional(names.MAX_LOST_SECONDS, positive_seconds),
            progress_seconds=reader.optional(names.PROGRESS_SECONDS, positive_seconds) or 60,
            environment=environ.get(names.ENVIRONMENT) or None,
            is_sagemaker=bool(environ.get(names.SAGEMAKER_JOB)),
            ranks=RankSettings.read(environ, reader),
        )
        reader.check()
        return settings


def parse_duration(value: str | float) -> float:
    """Return the seconds of `90`, "90s", "15m" or "1.5h".

    Raises:
        ValueError: if it is none of these, or not above 0.
    """
    if isinstance(value, str):
        match = DURATION.fullmatch(value)
        seconds = float(match["number"]) * SECONDS_OF_UNIT[match["unit"]] if match else 0
    else:
        seconds = value
    if not 0 < seconds < float("inf"):
        raise ValueError(f"max_lost must be seconds above 0 or text such as '90s', '15m' or '1h'; got {value!r}")
    return float(seconds)


def run_id_of(program: str) -> str:
    """Return the run's id where nobody gives one: the program's own name, so that two in one folder stay apart."""
    name = re.sub(r"[^a-z0-9]+", "-", Path(program).stem.lower()).strip("-")
    return name[:64] if re.match("[a-z]", name) else "run"
