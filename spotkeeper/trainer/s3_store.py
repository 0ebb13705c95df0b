"""Checkpoints in S3: what is large goes side by side, every byte is verified, every failure says which key it was."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.trainer.aws_refusal import remedy
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.mapped_file import create_file
from spotkeeper.trainer.s3_download import OtherSizeError, download, fresh_memory
from spotkeeper.trainer.s3_parts import CONNECTIONS, SMALLEST_PART_BYTES, Body, send_uncopied
from spotkeeper.trainer.s3_patience import Patience, status_of
from spotkeeper.trainer.s3_upload import PartedUpload
from spotkeeper.trainer.store import Stat, StoreRefusedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Result = TypeVar("Result")

PATIENCE_SECONDS: Final = 120.0
"""For an operation on a small object. Longer than S3 throttles, shorter than anybody waits for a job to start."""
SLOWEST_BYTES_PER_SECOND: Final = 4 * 1024 * 1024
"""Large objects may take as much longer as they do at this rate."""


class S3Store:
    """A bucket, or a prefix of one, as a `Store`. Credentials, region and endpoint are found as botocore does."""

    def __init__(self, bucket: str, prefix: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Take the bucket, and for how long an operation on a small object may be tried again and again."""
        try:
            self._client = _client()
        except BotoCoreError as error:
            raise StoreRefusedError(f"s3://{bucket}: {error} {remedy(error) or ''}".rstrip()) from error
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience_seconds = patience_seconds

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
                if status_of(error) == 412:
                    return False
                raise
            return True

        return self._persist(f"create {key}", create)

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
        """Upload, in parts if it is large; S3 verifies the checksum over the whole on arrival.

        What fails leaves nothing that is seen or billed, unless S3 does not even answer the request to abort; the
        bucket's lifecycle rule removes that within a day.
        """
        patience = self._patience(total_bytes)
        if total_bytes <= SMALLEST_PART_BYTES:
            return self._write_at_once(key, b"".join(chunks), patience)
        upload = PartedUpload(self._client, self._bucket, self._prefix + key, patience)
        try:
            return upload.complete(upload.send(chunks, total_bytes))
        except BaseException:
            upload.abort()
            raise

    def get(self, key: str) -> bytes:
        """Download in one request."""

        def read() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()

        return self._persist(f"read {key}", read)

    def fetch(self, key: str, total_bytes: int, into: Path | None = None) -> memoryview:
        """Download ranges side by side, into memory that nothing else uses, or a file."""
        if total_bytes > SMALLEST_PART_BYTES:
            memory = fresh_memory(total_bytes) if into is None else create_file(into, total_bytes)
            try:
                return download(self._client, self._bucket, self._prefix + key, memory, self._patience(total_bytes))
            except OtherSizeError:
                pass  # it is damaged: the caller sees by how much
        content = self.get(key)
        if into is not None:
            into.write_bytes(content)
        return memoryview(content)

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

    def _write_at_once(self, key: str, body: bytes, patience: Patience) -> str:
        checksum = crc64nvme(body)

        def put() -> None:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=Body(memoryview(body)),  # type: ignore[arg-type]  # as much of a file as botocore asks for
                ChecksumAlgorithm="CRC64NVME",
                ChecksumCRC64NVME=checksum,
            )

        patience.persist(f"write {key}", put)
        return checksum

    def _persist(self, action: str, call: Callable[[], Result]) -> Result:
        return self._patience(0).persist(action, call)

    def _patience(self, total_bytes: int) -> Patience:
        seconds = self._patience_seconds + total_bytes / SLOWEST_BYTES_PER_SECOND
        return Patience(f"s3://{self._bucket}/{self._prefix}", seconds)


def _client() -> "S3Client":
    # Our own check covers every byte; botocore's would turn damage into an error like an outage. Our own retries know
    # of the time that is left.
    settings = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=CONNECTIONS + 1,
        response_checksum_validation="when_required",
    )
    client: S3Client = boto3.client("s3", config=settings)
    if client.meta.endpoint_url.startswith("https:"):
        # As botocore does where it counts the checksum itself: TLS and a signed checksum protect what is sent, and
        # SHA-256 of all of it would cost more than everything else.
        client = boto3.client("s3", config=settings.merge(Config(s3={"payload_signing_enabled": False})))
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-send.s3.{operation}", send_uncopied)
    return client
