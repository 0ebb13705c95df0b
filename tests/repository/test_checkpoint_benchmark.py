"""The arithmetic of the checkpoint benchmarks, and that the endpoint compares; what they measure is not for tests."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from benchmarks import s3_upload
from benchmarks.checkpoint import ratios
from spotkeeper.trainer.checksum import crc64nvme


def case(method: str, size_mb: int = 250, **figures: float | None) -> dict[str, Any]:
    return {"size_mb": size_mb, "threads": 1, "method": method, **figures}


def cases(size_mb: int, *, stall: float, lost: float) -> list[dict[str, Any]]:
    return [
        case("memcpy", size_mb, stall_ms=20.0, restore_ms=20.0, lost_ms=None, save_mb_s=None),
        case("raw_write", size_mb, stall_ms=None, restore_ms=None, lost_ms=None, save_mb_s=500.0),
        case("raw_direct_write", size_mb, stall_ms=None, restore_ms=None, lost_ms=None, save_mb_s=1000.0),
        case("dcp_async", size_mb, stall_ms=100.0, restore_ms=50.0, lost_ms=200.0, save_mb_s=500.0),
        case("dcp_async_cached_stager", size_mb, stall_ms=40.0, restore_ms=50.0, lost_ms=100.0, save_mb_s=500.0),
        case("dcp_async_process", size_mb, stall_ms=50.0, restore_ms=50.0, lost_ms=80.0, save_mb_s=500.0),
        case("spotkeeper", size_mb, stall_ms=stall, restore_ms=30.0, lost_ms=lost, save_mb_s=950.0),
        case("spotkeeper_blocking", size_mb, stall_ms=24.0, restore_ms=30.0, lost_ms=lost, save_mb_s=900.0),
    ]


def test_each_figure_is_held_against_the_best_of_the_others_in_its_worst_case() -> None:
    found = ratios([*cases(250, stall=1.0, lost=8.0), *cases(1000, stall=2.0, lost=4.0)])

    assert found == {
        "stall_overlapped_vs_best_dcp": 0.05,
        "stall_blocking_vs_memcpy": 1.2,
        "lost_vs_best_dcp": 0.1,
        "restore_vs_memcpy": 1.5,
        "local_save_vs_raw": 0.95,
        "overhead_at_10_min": 0.000007,
    }


def test_training_that_seems_to_gain_time_by_saving_is_no_gain() -> None:
    found = ratios(cases(1000, stall=30.0, lost=-50.0))

    assert found["overhead_at_10_min"] == 0.00005
    assert found["lost_vs_best_dcp"] == 0.375


def upload(method: str, size_mb: int, scheme: str, save_mb_s: float, cpu_s_per_gb: float) -> dict[str, Any]:
    return {
        "method": method,
        "size_mb": size_mb,
        "scheme": scheme,
        "save_mb_s": save_mb_s,
        "cpu_s_per_gb": cpu_s_per_gb,
    }


def test_an_upload_is_held_against_the_better_of_boto3s_defaults_in_its_worst_size() -> None:
    found = s3_upload.ratios(
        [
            upload(method, size_mb, scheme, speed * factor, cost)
            for scheme, factor in (("https", 1.0), ("http", 2.0))
            for method, size_mb, speed, cost in (
                ("s3_spotkeeper", 250, 800.0, 1.0),
                ("s3_boto3_fileobj", 250, 300.0, 4.0),
                ("s3_boto3_file", 250, 320.0, 5.0),
                ("s3_boto3_file_large_parts", 250, 400.0, 2.0),
                ("s3_spotkeeper", 1000, 900.0, 1.0),
                ("s3_boto3_fileobj", 1000, 300.0, 2.5),
                ("s3_boto3_file", 1000, 100.0, 5.0),
                ("s3_boto3_file_large_parts", 1000, 450.0, 4.0),
            )
        ]
    )

    assert found == {
        "s3_vs_boto3": 2.5,
        "s3_cpu_vs_boto3": 0.4,
        "s3_vs_tuned_boto3": 2.0,
        "s3_cpu_vs_tuned_boto3": 0.5,
        "s3_plain_vs_boto3": 2.5,
        "s3_plain_cpu_vs_boto3": 0.4,
    }


@pytest.mark.parametrize("scheme", s3_upload.SCHEMES)
def test_the_endpoint_refuses_a_part_and_a_whole_that_are_not_what_their_checksums_say(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(s3_upload.certificate())
    content = bytes(range(256)) * 40_000
    with s3_upload.endpoint(scheme, pem) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        client: S3Client = boto3.client("s3")
        address: Any = {"Bucket": "bucket", "Key": "key"}
        upload_id = client.create_multipart_upload(**address, ChecksumAlgorithm="CRC64NVME")["UploadId"]
        part: Any = {**address, "UploadId": upload_id, "PartNumber": 1}

        client.upload_part(**part, Body=content, ChecksumAlgorithm="CRC64NVME")
        with pytest.raises(ClientError, match="BadDigest"):
            client.upload_part(**part, Body=content[1:], ChecksumCRC64NVME=crc64nvme(content))
        with pytest.raises(ClientError, match="BadDigest"):
            client.upload_part(**part, Body=content, ChecksumAlgorithm="CRC32")
        with pytest.raises(ClientError, match="BadDigest"):
            client.complete_multipart_upload(**address, UploadId=upload_id, ChecksumCRC64NVME=crc64nvme(content[1:]))
