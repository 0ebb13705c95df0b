"""A large object to S3, by parts side by side, each with its checksum, and one over the whole.

Not by boto3's transfer, which reads every part 16 KiB at a time in the interpreter: `python -m benchmarks.s3_upload`
measures both side by side. Not by the CRT client: boto3 builds that one without the endpoint it was configured for.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from spotkeeper.trainer.checksum import Crc64Nvme
from spotkeeper.trainer.s3_parts import CONNECTIONS, Body, batches, part_bytes
from spotkeeper.trainer.s3_patience import Patience, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ABORT_SECONDS: Final = 10.0
"""For taking back what has failed; beyond that the bucket's lifecycle rule does it within a day."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A part that S3 has and has verified."""

    number: int
    etag: str
    checksum: Crc64Nvme


class PartedUpload:
    """One multipart upload. No other attempt or process knows of it, and nothing is visible until `complete`."""

    def __init__(self, client: "S3Client", bucket: str, key: str, patience: Patience) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._patience = patience
        self._upload_id = patience.persist(f"begin to upload {key}", self._create)

    def send(self, chunks: Iterable[memoryview], total_bytes: int) -> list[Sent]:
        """Send all parts; return when S3 has every one, in their order.

        Raises:
            OSError: as soon as one part cannot be sent; no request is under way any more.
        """
        sent: list[Sent] = []
        with ThreadPoolExecutor(CONNECTIONS, "spotkeeper-upload") as pool:
            try:
                for batch in batches(chunks, part_bytes(total_bytes)):
                    numbers = range(len(sent) + 1, len(sent) + 1 + len(batch))
                    sent += pool.map(self._send_part, numbers, batch)
            except BaseException:
                self._patience.give_up()
                pool.shutdown(cancel_futures=True)
                raise
        return sent

    def complete(self, sent: list[Sent]) -> str:
        """Make the object of its parts, whose checksum over the whole S3 compares; return that."""
        checksum = Crc64Nvme()
        for part in sent:
            checksum.join(part.checksum)

        def complete() -> None:
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload_id,
                    ChecksumType="FULL_OBJECT",
                    ChecksumCRC64NVME=checksum.text(),
                    MpuObjectSize=checksum.total_bytes,
                    MultipartUpload={
                        "Parts": [
                            {"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC64NVME": part.checksum.text()}
                            for part in sent
                        ]
                    },
                )
            except ClientError as error:
                # So answers the second try after a reply that was lost. Whoever uploads asks what is stored, anyway.
                if code_of(error) != "NoSuchUpload":
                    raise

        self._patience.persist(f"complete the upload of {self._key}", complete)
        return checksum.text()

    def abort(self) -> None:
        """Take it back, as far as S3 answers: its parts would be billed, and are seen by nobody."""

        def abort() -> None:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

        with suppress(OSError):
            Patience(f"s3://{self._bucket}", ABORT_SECONDS).persist(f"abort the upload of {self._key}", abort)

    def _create(self) -> str:
        return self._client.create_multipart_upload(
            Bucket=self._bucket, Key=self._key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
        )["UploadId"]

    def _send_part(self, number: int, content: memoryview) -> Sent:
        checksum = Crc64Nvme()
        checksum.add(content)

        def send() -> Sent:
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=number,
                Body=Body(content),  # type: ignore[arg-type]  # as much of a file as botocore asks for
                ChecksumAlgorithm="CRC64NVME",
                ChecksumCRC64NVME=checksum.text(),
            )
            return Sent(number, answer["ETag"], checksum)

        return self._patience.persist(f"upload part {number} of {self._key}", send)
