"""Checkpoints in S3, through boto3's classic transfer.

Not through the CRT client: boto3 builds that one without the endpoint it was configured for.
"""

import io
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.trainer.aws_refusal import remedy
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.store import Stat, StoreRefusedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Result = TypeVar("Result")

ATTEMPTS = 4
"""For what botocore does not try again by itself: a body that breaks off, a write that lost a race (409)."""


class S3Store:
    """A bucket, or a prefix of one, as a `Store`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        # Our own check covers every byte; botocore's would turn damage into an error like an outage.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 8},
            connect_timeout=5,
            read_timeout=60,
            response_checksum_validation="when_required",
        )
        try:
            self._client: S3Client = boto3.client("s3", config=config)
        except BotoCoreError as error:
            raise StoreRefusedError(f"s3://{bucket}: {error} {remedy(error) or ''}".rstrip()) from error
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Put with `If-None-Match: *`; S3 answers 412 when the key is taken.

        A 412 may also answer the second try of a put whose first reply was lost: the caller reads back.
        """

        def create() -> bool:
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="CRC64NVME",
                    ChecksumCRC64NVME=crc64nvme(body),
                )
            except ClientError as error:
                if _status(error) == 412:
                    return False
                raise
            return True

        return self._persist(f"create {key}", create)

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:  # noqa: ARG002
        """Upload, in parts if it is large; S3 verifies the checksum over the whole on arrival."""
        body = b"".join(chunks)
        checksum = crc64nvme(body)

        def upload() -> None:
            self._client.upload_fileobj(
                io.BytesIO(body),
                self._bucket,
                self._prefix + key,
                ExtraArgs={"ChecksumAlgorithm": "CRC64NVME", "ChecksumCRC64NVME": checksum},
                Config=TransferConfig(preferred_transfer_client="classic"),
            )

        self._persist(f"write {key}", upload)
        return checksum

    def get(self, key: str) -> bytes:
        """Download in one request."""

        def read() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()

        return self._persist(f"read {key}", read)

    def fetch(self, key: str, total_bytes: int) -> memoryview:  # noqa: ARG002
        """Download in one request."""
        return memoryview(self.get(key))

    def head(self, key: str) -> Stat | None:
        """Ask for size, checksum and version."""

        def ask() -> Stat:
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED")
            return Stat(
                bytes=found["ContentLength"],
                crc64nvme=found.get("ChecksumCRC64NVME"),
                version_id=found.get("VersionId"),
            )

        try:
            return self._persist(f"look up {key}", ask)
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> list[str]:
        """List all pages."""

        def read() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            return [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", [])]

        return self._persist(f"list {prefix}", read)

    def delete(self, key: str) -> None:
        """Delete; in a versioned bucket the lifecycle rule removes what is behind the marker."""

        def remove() -> None:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

        self._persist(f"delete {key}", remove)

    def _persist(self, action: str, call: Callable[[], Result]) -> Result:
        """Return what `call` returns, trying again what may pass, and turn every other failure into `OSError`."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except ClientError as error:
                if _status(error) == 404 and error.response["Error"].get("Code") != "NoSuchBucket":
                    raise FileNotFoundError(f"s3://{self._bucket}/{self._prefix}: cannot {action}: {error}") from error
                # 409: another conditional write of this key is under way; S3 asks to send it again.
                if _status(error) != 409 or attempt == ATTEMPTS:
                    raise self._failure(action, error) from error
            except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
                if attempt == ATTEMPTS or isinstance(error, boto3.exceptions.Boto3Error):
                    raise self._failure(action, error) from error
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, action: str, error: Exception) -> OSError:
        message = f"s3://{self._bucket}/{self._prefix}: cannot {action}: {error}"
        cure = remedy(error)
        return OSError(message) if cure is None else StoreRefusedError(f"{message}: {cure}")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
