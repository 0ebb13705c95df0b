"""The user's program, brought from its archive into a folder, with what it asks pip for."""

import errno
import hashlib
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from spotkeeper.trainer.attempt_settings import Source
from spotkeeper.trainer.aws_refusal import remedy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOT_THERE: Final = {"404", "NoSuchKey"}
OF_THE_HOST: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""A disk that is full or broken is this host's; the next attempt has another."""
CREDENTIALS_ATTEMPTS: Final = 4


class SourceUnavailableError(Exception):
    """The archive, or what it asks pip for, could not be had now, or not on this host."""


def fetch(source: Source, target: Path) -> None:
    """Bring the archive to `target`.

    Raises:
        SourceUnavailableError: if S3 does not answer, or the disk takes no more.
        ValueError: if the archive is not there, may not be read, or is not the one that was submitted.
    """
    where = source.uri
    try:
        if where.startswith("/"):
            shutil.copyfile(where, target)
        else:
            _download(where, target)
    except FileNotFoundError as error:
        raise ValueError(f"the source archive {where} is not there: submit again") from error
    except (BotoCoreError, ClientError) as error:
        is_gone = isinstance(error, ClientError) and error.response["Error"].get("Code") in NOT_THERE
        cure = "submit again" if is_gone else remedy(error)
        if cure is not None:
            raise ValueError(f"the source archive {where} cannot be read: {error}: {cure}") from error
        raise SourceUnavailableError(f"{where}: {error}") from error
    except (OSError, boto3.exceptions.Boto3Error) as error:
        raise SourceUnavailableError(f"{where}: {error}") from error
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != source.sha256:
        raise ValueError(f"the source archive {where} has SHA-256 {sha256}, but {source.sha256} was submitted")


def _download(uri: str, target: Path) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client: S3Client = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 8}))
    for attempt in range(1, CREDENTIALS_ATTEMPTS + 1):
        try:
            client.download_file(bucket, key, str(target))
        except NoCredentialsError:
            if attempt == CREDENTIALS_ATTEMPTS:
                raise
            time.sleep(0.2 * 2**attempt)  # a role's credentials may come late
        else:
            return


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a gzipped tar archive into `folder`, and nothing anywhere else.

    Raises:
        SourceUnavailableError: if the disk takes no more.
        ValueError: if it is damaged, or a member reaches outside the folder or is no plain file.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            # The "data" filter: no absolute names, no "..", no links that lead out, no devices, no set-user-id.
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in OF_THE_HOST:
            raise SourceUnavailableError(f"the source archive cannot be unpacked here: {error}") from error
        raise ValueError(f"the source archive cannot be unpacked: {error}") from error


def install_requirements(folder: Path, requirements_file: str, target: Path) -> None:
    """Install with pip what the program's requirements file lists, into a folder for PYTHONPATH.

    Raises:
        SourceUnavailableError: if pip fails: its index, and the way to it, do so more often than the file.
        ValueError: if there is no such file.
    """
    if not (folder / requirements_file).is_file():
        raise ValueError(f"the source archive has no requirements file {requirements_file!r}")
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*pip, "--target", str(target), "--requirement", requirements_file], cwd=folder, check=False)
    if done.returncode != 0:
        raise SourceUnavailableError(f"pip could not install {requirements_file}; its exit code is {done.returncode}")
