"""Makes an attempt's container: its folders, its environment, and where its output goes."""

import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from emulation.batch import container
from emulation.batch.job_logs import LogShipper
from emulation.batch.jobs import Attempt, Job
from emulation.batch.processes import Container
from emulation.clock import Clock
from spotkeeper.contract import environment_variables

_SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

_log = logging.getLogger(__name__)


class Launcher:
    """Makes containers.

    Args:
        clock: Stamps lines of output.
        emulation_id: First part of the containers' marks.
        work_dir: Each attempt gets `<job id>/<attempt>/` in it: `output.log`, and folders that end with the attempt.
        region: AWS region that jobs see.
        endpoint_url: AWS endpoint that jobs see; empty gives them none.
        entrypoint: What the image's ENTRYPOINT puts before a job's command.
        host_environment: Variables that every container gets on top of AWS's.
        read_secret: Finds the values of a job definition's `secrets`.
        shipper: Takes output to CloudWatch Logs; None leaves it in the files.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        emulation_id: str,
        work_dir: Path,
        region: str,
        endpoint_url: str,
        entrypoint: Sequence[str],
        host_environment: Mapping[str, str],
        read_secret: container.SecretReader,
        shipper: LogShipper | None,
    ) -> None:
        self.failures: list[Exception] = []
        """Log files that could not be written, as on a full disk. The jobs went on."""
        self._clock = clock
        self._emulation_id = emulation_id
        self._work_dir = work_dir
        self._region = region
        self._endpoint_url = endpoint_url
        self._entrypoint = tuple(entrypoint)
        self._host_environment = dict(host_environment)
        self._read_secret = read_secret
        self._shipper = shipper

    def log_path(self, job_id: str, attempt: int) -> Path:
        """Return where an attempt's output is kept."""
        # A child is `<array>:<index>`, and a colon would divide the paths of a search path.
        return self._work_dir.joinpath(*job_id.split(":"), str(attempt), "output.log")

    def prepare(self, job: Job, attempt: Attempt, metadata_endpoint: str) -> Container:
        """Return the attempt's container, ready to start.

        Raises:
            OSError: if its folders cannot be made.
            botocore.exceptions.ClientError, BotoCoreError: if a secret cannot be read.
        """
        folder = attempt.log_path.parent
        places = {name: folder / name for name in ("home", "tmp", "work")}
        for place in places.values():
            place.mkdir(parents=True)
        from_aws = {
            "PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}",
            "HOME": str(places["home"]),
            "TMPDIR": str(places["tmp"]),
            "LANG": "C.UTF-8",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ACCESS_KEY_ID": "emulation",
            "AWS_SECRET_ACCESS_KEY": "emulation",
            environment_variables.IMDS_ENDPOINT: metadata_endpoint,
            environment_variables.BATCH_JOB_ID: job.id,
            environment_variables.BATCH_JOB_ATTEMPT: str(attempt.number),
            "AWS_BATCH_JQ_NAME": job.queue.name,
            "AWS_BATCH_CE_NAME": attempt.compute_environment,
        }
        if job.array_index is not None:
            from_aws["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.array_index)
        if self._endpoint_url:
            from_aws["AWS_ENDPOINT_URL"] = self._endpoint_url
        told = container.environment(job.container, self._read_secret, self._host_environment | from_aws)
        limit = told.get(environment_variables.ATTEMPT_SECONDS, "")
        if limit.isdecimal():
            # Batch's limit is shortened here, so the program is told the shortened one.
            told[environment_variables.ATTEMPT_SECONDS] = f"{max(1.0, self._clock.real_seconds(int(limit))):g}"
        return Container(
            container.command(job.container, job.parameters, self._entrypoint),
            environment=told,
            mark=f"{self._emulation_id}/{attempt.task_arn.rpartition('/')[2]}",
            folder=places["work"],
            on_line=_Output(self, attempt).write,
        )

    def clean_up(self, attempt: Attempt) -> None:
        """Remove the attempt's file system, as with its container. The output stays."""
        for name in ("home", "tmp", "work"):
            shutil.rmtree(attempt.log_path.parent / name, ignore_errors=True)

    def take_line(self, attempt: Attempt, line: str) -> None:
        """Send a line to CloudWatch Logs."""
        if self._shipper is not None:
            self._shipper.send(attempt.log_group, attempt.log_stream, self._clock.now_ms(), line)


class _Output:
    """An attempt's log file and stream."""

    def __init__(self, launcher: Launcher, attempt: Attempt) -> None:
        self._launcher = launcher
        self._attempt = attempt
        self._is_writable = True

    def write(self, line: str) -> None:
        self._launcher.take_line(self._attempt, line)
        if not self._is_writable:
            return
        try:
            with self._attempt.log_path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:  # a full disk stops the file, not the job: it would block on its output
            self._is_writable = False
            self._launcher.failures.append(error)
            _log.error("%s is incomplete", self._attempt.log_path, exc_info=error)
