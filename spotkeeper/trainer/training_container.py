"""What SageMaker tells a container: which job it is of, where its folders are, and which other nodes there are.

docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spotkeeper.contract import environment_variables as names

DEFAULT_BASE: Final = "/opt/ml"
DEFAULT_PORT: Final = "29500"
"""torchrun's own."""
STOP_SECONDS: Final = 120.0
"""From SageMaker's SIGTERM to its SIGKILL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingContainer:
    """One container of a training job; each node has one."""

    job_arn: str
    base: Path
    """`/opt/ml`: where `input`, `model`, `output` and `checkpoints` are."""
    hosts: tuple[str, ...]
    """Names of all nodes, in the same order everywhere."""
    current_host: str
    instance_type: str | None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "TrainingContainer | None":
        """Return what SageMaker says, or None where it does not run the container.

        Raises:
            ValueError: if it says something else than its documentation.
        """
        arn = environ.get(names.TRAINING_JOB_ARN)
        if not arn:
            return None
        base = Path(environ.get(names.SAGEMAKER_BASE) or DEFAULT_BASE)
        path = base / "input" / "config" / "resourceconfig.json"
        try:
            told: dict[str, Any] = json.loads(path.read_text())
            hosts, current = tuple(sorted(told["hosts"])), told["current_host"]
            hosts.index(current)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{names.TRAINING_JOB_ARN} is set, but {path} does not name this node and all nodes "
                f"({type(error).__name__}: {error}): only SageMaker sets that variable"
            ) from error
        return cls(
            job_arn=arn,
            base=base,
            hosts=hosts,
            current_host=current,
            instance_type=told.get("current_instance_type"),
        )

    @property
    def node_rank(self) -> int:
        """From 0; node 0 speaks for all."""
        return self.hosts.index(self.current_host)

    def port(self, environ: Mapping[str, str]) -> int:
        """Return the port of node 0 at which the nodes meet."""
        return int(environ.get("MASTER_PORT") or DEFAULT_PORT)

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what the program is told on top of `environ`, whose own values stay.

        SPOTKEEPER_DATA_<CHANNEL> is the folder of a channel. Where there are several nodes, MASTER_ADDR, MASTER_PORT,
        NODE_RANK, RANK, LOCAL_RANK and WORLD_SIZE describe one process a node, for `python train.py`; torchrun reads
        its PET_… variables and sets the others for the processes that it starts.
        """
        offered = {
            f"{names.DATA_PREFIX}{folder.name.upper().replace('-', '_')}": str(folder)
            for folder in sorted((self.base / "input" / "data").glob("*"))
            if folder.is_dir()
        }
        if len(self.hosts) > 1:
            count, rank, port = str(len(self.hosts)), str(self.node_rank), str(self.port(environ))
            offered |= {
                "MASTER_ADDR": self.hosts[0],
                "MASTER_PORT": port,
                "NODE_RANK": rank,
                "RANK": rank,
                "LOCAL_RANK": "0",
                "WORLD_SIZE": count,
                "PET_NNODES": count,
                "PET_NODE_RANK": rank,
                "PET_MASTER_ADDR": self.hosts[0],
                "PET_MASTER_PORT": port,
            }
        return {name: value for name, value in offered.items() if not environ.get(name)}

    def check_checkpoints(self, environ: Mapping[str, str]) -> None:
        """Refuse checkpoints that several nodes cannot make together.

        Raises:
            ValueError: if they would go into a folder, which each node has for itself.
        """
        if len(self.hosts) == 1:
            return
        nodes = f"the training job has {len(self.hosts)} nodes"
        if folder := environ.get(names.CHECKPOINT_FOLDER):
            raise ValueError(
                f"{nodes}, and each would commit its own {folder!r}: use spotkeeper.Run, whose processes save "
                "together, instead of --checkpoint-folder, or one node"
            )
        uri = environ.get(names.CHECKPOINT_URI, "")
        if uri and not uri.startswith("s3://"):
            raise ValueError(
                f"{nodes}, and {names.CHECKPOINT_URI}={uri!r} is a folder, of which each node has one of its own: "
                "their checkpoints must go straight to s3://…, so without network isolation"
            )

    def stay(self) -> None:
        """Wait to be killed, after a SIGTERM: any exit would end the job, which SageMaker may be about to restart."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.sigtimedwait({signal.SIGTERM}, STOP_SECONDS)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def path(self, uri: str) -> str:
        """Return an address below `/opt/ml` as it is here; any other as it is."""
        path = Path(uri)
        if "://" in uri or not path.is_relative_to(DEFAULT_BASE):
            return uri
        return str(self.base / path.relative_to(DEFAULT_BASE))


def say_failure(environ: Mapping[str, str], reason: str) -> None:
    """Write where SageMaker takes a job's FailureReason from, if it runs this container."""
    if environ.get(names.TRAINING_JOB_ARN):
        with suppress(OSError):  # the log has it as well
            (Path(environ.get(names.SAGEMAKER_BASE) or DEFAULT_BASE) / "output" / "failure").write_text(reason)
