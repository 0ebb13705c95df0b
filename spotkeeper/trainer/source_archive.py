"""The user's program, brought from its archive into a folder, with what it asks pip for."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.trainer.attempt_settings import Source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PERMANENT_ERRORS: Final = {"403", "404", "AccessDenied", "NoSuchBucket", "NoSuchKey"}


class SourceUnavailableError(Exception):
    """The archive could not be fetched now."""


def fetch(source: Source, target: Path) -> None:
    """Download the archive to `target`.

    Raises:
        SourceUnavailableError: if S3 does not answer.
        ValueError: if the archive is not there, may not be read, or is not the one that was submitted.
    """
    where = f"s3://{source.bucket}/{source.key}"
    client: S3Client = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 8}))
    try:
        client.download_file(source.bucket, source.key, str(target))
    except ClientError as error:
        if error.response["Error"].get("Code") in PERMANENT_ERRORS:
            raise ValueError(f"the source archive {where} cannot be read: {error}") from error
        raise SourceUnavailableError(f"{where}: {error}") from error
    except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
        raise SourceUnavailableError(f"{where}: {error}") from error
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != source.sha256:
        raise ValueError(f"the source archive {where} has SHA-256 {sha256}, but {source.sha256} was submitted")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a gzipped tar archive into `folder`, and nothing anywhere else.

    Raises:
        ValueError: if it is damaged, or a member reaches outside the folder or is no plain file.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            # The "data" filter: no absolute names, no "..", no links that lead out, no devices, no set-user-id.
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"the source archive cannot be unpacked: {error}") from error


def install_requirements(folder: Path, requirements_file: str, target: Path) -> None:
    """Install with pip what the program's requirements file lists, into a folder for PYTHONPATH.

    Raises:
        ValueError: if there is no such file, or pip fails.
    """
    if not (folder / requirements_file).is_file():
        raise ValueError(f"the source archive has no requirements file {requirements_file!r}")
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*pip, "--target", str(target), "--requirement", requirements_file], cwd=folder, check=False)
    if done.returncode != 0:
        raise ValueError(f"pip could not install {requirements_file}; its exit code is {done.returncode}")
