import os
import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.trainer.fake_imds import FakeImds, serve_imds
from tests.trainer.run_ledger import JOB, RunLedger

REPOSITORY = Path(__file__).parents[2]
INTERPRETER = REPOSITORY / "tests" / "interpreter"
"""Whatever has it in PYTHONPATH begins with its sitecustomize.py."""


def closed_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environ(**variables: str) -> dict[str, str]:
    """Return an environment for a program: this one's paths, no Spotkeeper or AWS settings but the given ones."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{INTERPRETER}",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
        **variables,
    }


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    with serve_imds() as fake:
        yield fake


@pytest.fixture(scope="session")
def aws_environ() -> Iterator[dict[str, str]]:
    """Environment variables that send boto3 to an AWS of one process on 127.0.0.1."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture
def aws(aws_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, for clients made in the test's own process."""
    for name, value in aws_environ.items():
        monkeypatch.setenv(name, value)
    # moto's signature check is off, and a profile of the machine must not be looked for.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    boto3.setup_default_session()
    return aws_environ


@pytest.fixture
def ledger(aws: dict[str, str], request: pytest.FixtureRequest) -> RunLedger:
    assert aws
    return RunLedger(f"ledger-{abs(hash(request.node.nodeid))}")


@pytest.fixture
def environ(aws: dict[str, str], ledger: RunLedger, tmp_path: Path) -> dict[str, str]:
    return clean_environ(
        **aws,
        SPOTKEEPER_RUN_ID="tiny",
        SPOTKEEPER_LEDGER_TABLE=ledger.table,
        SPOTKEEPER_URI=str(tmp_path / "checkpoints"),
        SPOTKEEPER_SUBMISSION="1",
        AWS_BATCH_JOB_ID=JOB,
        AWS_BATCH_JOB_ATTEMPT="1",
    )
