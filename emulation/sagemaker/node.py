"""A node of a training job: its base folder, as SageMaker fills it, and its container.

docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emulation.batch.job_logs import LogShipper
from emulation.batch.processes import Container
from emulation.sagemaker.training_jobs import TrainingJob
from spotkeeper.contract import environment_variables

_SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_NOTHING: Final = "http://127.0.0.1:1"
"""Where nothing listens: what a container finds that may reach nothing, and instead of EC2's metadata service, which is
out of reach of SageMaker's containers."""


class NoDataError(Exception):
    """A channel's address has no objects. SageMaker fails such a job: the words are from public reports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What is the same for every container."""

    region: str
    endpoint_url: str
    """AWS endpoint that containers see; empty gives them none."""
    entrypoint: tuple[str, ...]
    """The image's ENTRYPOINT, for jobs that name none."""
    host_environment: Mapping[str, str]
    s3: Any
    shipper: LogShipper | None = None
    """Takes output to CloudWatch Logs; None leaves it in the files."""


def host_names(count: int) -> list[str]:
    """Return the nodes' names. In AWS they are algo-1, algo-2 and so on, and resolve; here they are addresses."""
    return [f"127.0.0.{number}" for number in range(1, count + 1)]


class Node:
    """One node in one period of a job.

    Args:
        job: The training job.
        index: From 0.
        instance_type: That it was given.
        folder: New; becomes the base folder's parent, and keeps `output.log`.
        limit_seconds: Real seconds in which the attempt is ended, for the program to be told.
        rendezvous_port: A port that is free on this machine, which all nodes share.
        surroundings: What every container has.
    """

    def __init__(
        self,
        job: TrainingJob,
        index: int,
        *,
        instance_type: str,
        folder: Path,
        limit_seconds: float,
        rendezvous_port: int,
        surroundings: Surroundings,
    ) -> None:
        self._job = job
        self._index = index
        self._instance_type = instance_type
        self._limit_seconds = limit_seconds
        self._rendezvous_port = rendezvous_port
        self._surroundings = surroundings
        self._folder = folder
        self.log_path = folder / "output.log"
        self.base = folder / "ml"
        self.container: Container | None = None
        self.exit_code: int | None = None

    @property
    def checkpoints(self) -> Path | None:
        """The folder that is mirrored, if the job wants that."""
        config = self._job.request.get("CheckpointConfig")
        if not config:
            return None
        path = Path(config.get("LocalPath") or "/opt/ml/checkpoints")
        return self.base / path.relative_to("/opt/ml") if path.is_relative_to("/opt/ml") else self.base / path.name

    def make_folders(self) -> None:
        """Make the base folder and bring the configuration."""
        job, config = self._job, self.base / "input" / "config"
        for name in ("input/config", "input/data", "model", "output/data", "code"):
            (self.base / name).mkdir(parents=True)
        for name in ("home", "tmp", "work"):
            (self._folder / name).mkdir()
        if self.checkpoints is not None:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        hosts = host_names(job.node_count)
        group = {
            "instance_group_name": "homogeneousCluster",
            "instance_type": self._instance_type,
            "hosts": hosts,
        }
        documents = {
            "resourceconfig": {
                "current_host": hosts[self._index],
                "current_instance_type": self._instance_type,
                "current_group_name": "homogeneousCluster",
                "hosts": hosts,
                "instance_groups": [group],
                "network_interface_name": "lo",
            },
            "hyperparameters": job.request.get("HyperParameters") or {},
            "inputdataconfig": {
                channel["ChannelName"]: {
                    "TrainingInputMode": "File",
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": channel.get("RecordWrapperType", "None"),
                }
                | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})
                for channel in job.request.get("InputDataConfig") or ()
            },
        }
        for name, document in documents.items():
            (config / f"{name}.json").write_text(json.dumps(document))

    def download_channels(self) -> None:
        """Bring the data of every channel.

        Raises:
            botocore.exceptions.ClientError: if S3 refuses.
            NoDataError: if a channel brings nothing.
        """
        for channel in self._job.request.get("InputDataConfig") or ():
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            folder = self.base / "input" / "data" / channel["ChannelName"]
            if download(self._surroundings.s3, *split_uri(uri), folder) == 0:
                raise NoDataError(f'No S3 objects found under S3 URL "{uri}" given in input data source.')

    def make_container(self, *, mark: str, on_line: Callable[[str], None]) -> Container:
        """Return the node's container, ready to start."""
        algorithm = self._job.request["AlgorithmSpecification"]
        entrypoint: Sequence[str] = algorithm.get("ContainerEntrypoint") or self._surroundings.entrypoint
        arguments: Sequence[str] = algorithm.get("ContainerArguments") or (
            () if algorithm.get("ContainerEntrypoint") else ("train",)
        )
        self.container = Container(
            [*entrypoint, *arguments],
            environment=self._environment(),
            mark=mark,
            folder=self._folder / "work",
            on_line=on_line,
        )
        return self.container

    def pack_model(self) -> Path | None:
        """Pack what the program left in its model folder; None if that is empty."""
        model, archive = self.base / "model", self._folder / "tmp" / "model.tar.gz"
        if not any(model.iterdir()):
            return None
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(model.iterdir()):
                tar.add(path, arcname=path.name)
        return archive

    @property
    def failure(self) -> str:
        """What the program wrote into `output/failure`."""
        path = self.base / "output" / "failure"
        return path.read_text(errors="replace") if path.is_file() else ""

    def clean_up(self) -> None:
        """Remove the container's file system. The output stays."""
        for name in ("ml", "home", "tmp", "work"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        surroundings = self._surroundings
        environment = dict(self._job.request.get("Environment") or {})
        limit = environment.get(environment_variables.ATTEMPT_SECONDS, "")
        if limit.isdecimal():
            # SageMaker's limit is shortened here, so the program is told the shortened one.
            environment[environment_variables.ATTEMPT_SECONDS] = f"{max(1.0, self._limit_seconds):g}"
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}",
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "LANG": "C.UTF-8",
            "AWS_REGION": surroundings.region,
            "TRAINING_JOB_NAME": self._job.name,
            "TRAINING_JOB_ARN": self._job.arn,
            "SAGEMAKER_BASE_DIR": str(self.base),
            environment_variables.IMDS_ENDPOINT: _NOTHING,
            **surroundings.host_environment,
        }
        # All nodes are this machine, where only one of two jobs can have the usual port.
        environment.setdefault("MASTER_PORT", str(self._rendezvous_port))
        if self._job.is_isolated:
            return environment | {"AWS_ENDPOINT_URL": _NOTHING}
        keys = {
            "AWS_DEFAULT_REGION": surroundings.region,
            "AWS_ACCESS_KEY_ID": "emulation",
            "AWS_SECRET_ACCESS_KEY": "emulation",
        }
        return (
            environment | keys | ({"AWS_ENDPOINT_URL": surroundings.endpoint_url} if surroundings.endpoint_url else {})
        )


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of `s3://bucket/prefix`."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


def download(s3: Any, bucket: str, prefix: str, folder: Path) -> int:
    """Bring every object below a prefix, under its name after the prefix's last slash; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", ()):
            number += 1
            name = found["Key"][len(prefix) :].lstrip("/") or found["Key"].rpartition("/")[2]
            if name and not name.endswith("/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(folder / name))
    return number
