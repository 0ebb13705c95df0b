"""MiniStack's DynamoDB, in a process and an environment of its own: its pins clash with ours.

It evaluates expressions, transactions and indexes as DynamoDB does, on one machine, for one client at a time here. What
it does not prove: throttling, lag of the index, limits of size, and the grammar (it accepts arithmetic in conditions,
which AWS refuses), for which `expression_grammar.py` is there.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from tests.control.ledger_table import create_table
from tests.control.mocked_aws import REGION

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PYTHON: Final = Path(__file__).parents[2] / ".venv-ministack" / "bin" / "python"
HOST: Final = "127.0.0.1"
NUM_LOOKS: Final = 400
PAUSE_SECONDS: Final = 0.05


class Emulator:
    """Empty tables, one after another."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self.client = client
        self._numbers = count(1)

    @contextmanager
    def table(self) -> Iterator[str]:
        name = f"ledger-{next(self._numbers)}"
        create_table(self.client, name)
        yield name
        self.client.delete_table(TableName=name)


@contextmanager
def running_emulator(work_dir: Path) -> Iterator[Emulator]:
    """Run MiniStack, reachable from this machine alone, until the block ends."""
    if not PYTHON.exists():
        raise FileNotFoundError("MiniStack is not installed; `make test` installs it into .venv-ministack")
    port = _free_port()
    settings = {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "SERVICES": "dynamodb",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "TMPDIR": str(work_dir),
        "PATH": os.environ.get("PATH", ""),
    }
    with (work_dir / "ministack.log").open("wb") as log:
        child = subprocess.Popen(
            [PYTHON, "-m", "ministack"], env=settings, cwd=work_dir, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_it_listens(child, port, work_dir / "ministack.log")
            yield Emulator(_client(port))
        finally:
            child.terminate()
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_listens(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(NUM_LOOKS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        try:
            child.wait(timeout=PAUSE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"MiniStack does not listen on port {port}; it says:\n{log.read_text()[-2000:]}")


def _client(port: int) -> "DynamoDBClient":
    return boto3.client(
        "dynamodb",
        endpoint_url=f"http://{HOST}:{port}",
        region_name=REGION,
        aws_access_key_id="123456789012",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}),
    )
