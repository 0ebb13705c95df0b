"""What the S3 store does when S3 and the network do what they do, before a server that compares checksums."""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path

import boto3
import pytest
from mypy_boto3_s3 import S3Client

from benchmarks.s3_upload import certificate
from spotkeeper.contract.checkpoint_layout import manifest_key
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.s3_parts import SMALLEST_PART_BYTES, batches, part_bytes
from spotkeeper.trainer.s3_store import S3Store
from spotkeeper.trainer.store import StoreRefusedError
from tests.trainer.conftest import clean_environ
from tests.trainer.faulty_s3 import Fault, FaultyS3, serve_faults
from tests.trainer.s3_saver import RUN
from tests.trainer.s3_saver import content as content_of_step
from tests.trainer.seaweed import KEYS, client, serve_seaweed

MIB = 1024 * 1024
LARGE = bytes(os.urandom(MIB)) * 17
"""In two parts."""
SMALL = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_seaweed(tmp_path_factory.mktemp("seaweed")) as url:
        yield url


@pytest.fixture(scope="module")
def direct(seaweed: str) -> S3Client:
    made = client(seaweed)
    made.create_bucket(Bucket="checkpoints")
    made.put_bucket_versioning(Bucket="checkpoints", VersioningConfiguration={"Status": "Enabled"})
    return made


@pytest.fixture
def proxy(seaweed: str, direct: S3Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    assert direct.meta.endpoint_url == seaweed
    with serve_faults(seaweed) as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/nonexistent")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which keeps the first credentials that it finds
        yield server


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"test-{abs(hash(request.node.nodeid))}"


@pytest.fixture
def store(proxy: FaultyS3, prefix: str) -> S3Store:
    assert os.environ["AWS_ENDPOINT_URL"] == proxy.url
    return S3Store("checkpoints", prefix, patience_seconds=60)


def put(store: S3Store, key: str, content: bytes) -> None:
    assert store.write(key, [memoryview(content)], len(content)) == crc64nvme(content)


def join_run(store: S3Store) -> Checkpoints:
    return Checkpoints(store, run_id=RUN, keep=2, epoch=None)


def commit(checkpoints: Checkpoints, step: int, tensors: bytes) -> str:
    stored = checkpoints.write_data(step=step, chunks=[memoryview(tensors)], total_bytes=len(tensors))
    return checkpoints.commit(step=step, cause="periodic", stored=stored, state={"step": step})


def uploads_under_way(direct: S3Client, prefix: str) -> list[str]:
    found = direct.list_multipart_uploads(Bucket="checkpoints").get("Uploads", [])
    return [upload["Key"] for upload in found if upload["Key"].startswith(prefix)]


# Parts


@pytest.mark.parametrize("lengths", [[1], [100], [250, 250], [40, 40, 40], [10] * 30, [49, 1, 260, 3], [0, 0, 7]])
def test_parts_are_the_whole_in_order_and_all_but_the_last_are_at_least_half_as_large_as_asked(
    lengths: list[int],
) -> None:
    content = os.urandom(sum(lengths))
    begins = [sum(lengths[:number]) for number in range(len(lengths))]
    chunks = [memoryview(content)[begin : begin + size] for begin, size in zip(begins, lengths, strict=True)]

    parts = [bytes(part) for batch in batches(chunks, 100) for part in batch]

    assert b"".join(parts) == content
    assert all(50 <= len(part) <= 100 for part in parts[:-1])
    assert len(parts[-1]) <= 100


def test_no_chunk_is_asked_for_before_the_parts_of_the_one_before_have_been_taken() -> None:
    memory = bytearray(b"a" * 300)

    def refilled() -> Iterator[memoryview]:
        for letter in b"abc":
            memory[:] = bytes([letter]) * 300
            yield memoryview(memory)

    assert [bytes(part)[:1] for batch in batches(refilled(), 100) for part in batch] == [b"a"] * 3 + [b"b"] * 3 + [
        b"c"
    ] * 3


@pytest.mark.parametrize("gib", [0.1, 1, 100, 5000])
def test_no_object_has_more_parts_than_s3_allows(gib: float) -> None:
    total = int(gib * 1024 * MIB)
    assert SMALLEST_PART_BYTES // 2 >= 5 * MIB
    assert 2 * total / part_bytes(total) + 1 <= 10_000
    assert part_bytes(total) <= 5 * 1024 * MIB


# What is large


def test_what_is_large_goes_in_parts_and_comes_back_in_ranges(store: S3Store, proxy: FaultyS3) -> None:
    put(store, "data/large", LARGE)

    stat = store.head("data/large")
    assert stat is not None
    assert (stat.bytes, stat.crc64nvme) == (len(LARGE), crc64nvme(LARGE))
    assert store.fetch("data/large", len(LARGE)) == LARGE
    assert proxy.seen.count("UploadPart") == 2
    assert proxy.seen.count("PutObject") == 0
    assert proxy.seen.count("GetObject") == 2


def test_chunks_of_an_arena_that_is_filled_again_and_again_arrive_in_order(store: S3Store) -> None:
    arena = bytearray(9 * MIB)

    def chunks() -> Iterator[memoryview]:
        for begin in range(0, len(LARGE), len(arena)):
            piece = LARGE[begin : begin + len(arena)]
            arena[: len(piece)] = piece
            yield memoryview(arena)[: len(piece)]

    assert store.write("data/chunked", chunks(), len(LARGE)) == crc64nvme(LARGE)
    assert store.fetch("data/chunked", len(LARGE)) == LARGE


@pytest.mark.parametrize("content", [LARGE, SMALL, b""], ids=["large", "small", "empty"])
def test_what_is_fetched_into_a_file_takes_no_memory_that_could_not_be_written_back(
    store: S3Store, tmp_path: Path, content: bytes
) -> None:
    store.write("data/model", [memoryview(content)], len(content))
    before = shared_memory_kib()

    fetched = store.fetch("data/model", len(content), tmp_path / "model")

    assert shared_memory_kib() == before
    assert (tmp_path / "model").read_bytes() == content
    assert fetched == content


def shared_memory_kib() -> int:
    """Return how much memory without a file, beside its own, this process has: that of what is fetched otherwise."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssShmem:")[2].split()[0])


def test_what_is_fetched_cannot_be_written_to(store: S3Store) -> None:
    put(store, "data/large", LARGE)
    assert store.fetch("data/large", len(LARGE)).readonly


@pytest.mark.parametrize("size", [0, 5 * MIB, 17 * MIB - 1, 17 * MIB + 1])
def test_an_object_of_another_size_is_returned_as_it_is(
    store: S3Store, direct: S3Client, prefix: str, size: int
) -> None:
    content = (LARGE + b"more")[:size]
    direct.put_object(Bucket="checkpoints", Key=f"{prefix}/data/other", Body=content)
    assert store.fetch("data/other", len(LARGE)) == content


# What is signed


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_over_tls_the_checksum_is_signed_and_over_plain_http_every_byte_is(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Message] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which says 100 Continue

        def do_PUT(self) -> None:
            self.close_connection = True
            received.append(self.headers)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    pem = tmp_path / "certificate.pem"
    pem.write_bytes(certificate())
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        for name, value in {**KEYS, "AWS_CA_BUNDLE": str(pem)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"{scheme}://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        put(S3Store("bucket", ""), "data/small", SMALL)
        thread.join()

    (headers,) = received
    signed = hashlib.sha256(SMALL).hexdigest() if scheme == "http" else "UNSIGNED-PAYLOAD"
    assert headers["x-amz-content-sha256"] == signed
    assert headers["x-amz-checksum-crc64nvme"] == crc64nvme(SMALL)
    assert "x-amz-checksum-crc64nvme" in headers["Authorization"]


# Faults that pass

PASSING = [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.CUT_REQUEST, Fault.LOST_ANSWER, Fault.SKEWED_CLOCK]


OF_AN_UPLOAD = ["UploadPart", "CompleteMultipartUpload", "CreateMultipartUpload"]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [*((operation, fault) for operation in OF_AN_UPLOAD for fault in PASSING), ("UploadPart", Fault.DAMAGED_REQUEST)],
)
def test_a_fault_that_passes_delays_an_upload_and_no_more(
    store: S3Store, proxy: FaultyS3, operation: str, fault: Fault
) -> None:
    proxy.plan(operation, fault, times=2 if fault is not Fault.LOST_ANSWER else 1)

    key = commit(join_run(store), 5, LARGE)

    found = join_run(store).newest_valid()
    assert found is not None
    assert found.key == key
    assert found.tensors == LARGE
    assert proxy.seen.count(operation) >= 2


@pytest.mark.parametrize("fault", [*PASSING, Fault.DAMAGED_REQUEST])
def test_a_fault_that_passes_delays_a_small_object_and_the_commit_and_no_more(
    store: S3Store, proxy: FaultyS3, fault: Fault
) -> None:
    checkpoints = join_run(store)
    proxy.plan("PutObject", fault, first=1)
    proxy.plan("PutObject", fault, first=3)

    key = commit(checkpoints, 5, SMALL)

    assert join_run(store).newest_valid().key == key  # type: ignore[union-attr]
    assert store.list("commit/") == [key]


@pytest.mark.parametrize("fault", [*PASSING, Fault.CUT_ANSWER])
def test_a_fault_that_passes_delays_a_download_and_no_more(store: S3Store, proxy: FaultyS3, fault: Fault) -> None:
    put(store, "data/large", LARGE)
    put(store, "data/small", SMALL)
    proxy.plan("GetObject", fault, times=2)
    assert store.fetch("data/large", len(LARGE)) == LARGE
    proxy.plan("GetObject", fault)
    assert store.get("data/small") == SMALL


# Faults that do not


def test_an_upload_that_fails_is_taken_back_and_names_the_key_and_the_call(
    proxy: FaultyS3, direct: S3Client, prefix: str
) -> None:
    impatient = S3Store("checkpoints", prefix, patience_seconds=0)
    proxy.plan("UploadPart", Fault.INTERNAL_ERROR, times=1000)

    with pytest.raises(
        OSError, match=rf"cannot upload part \d of {prefix}/data/large: .*InternalError.*tried \d+ times"
    ):
        put(impatient, "data/large", LARGE)

    assert proxy.seen[-1] == "AbortMultipartUpload"
    assert uploads_under_way(direct, prefix) == []
    assert impatient.list("data/") == []


def test_a_refusal_ends_an_upload_at_once_and_says_what_to_do(
    store: S3Store, proxy: FaultyS3, direct: S3Client, prefix: str
) -> None:
    proxy.plan("UploadPart", Fault.DENIED, times=1000)

    with pytest.raises(StoreRefusedError, match="give the job's role this permission"):
        put(store, "data/large", LARGE)

    assert proxy.seen.count("UploadPart") == 2
    assert uploads_under_way(direct, prefix) == []


def test_memory_that_is_not_filled_any_more_ends_an_upload_and_leaves_nothing(
    store: S3Store, direct: S3Client, prefix: str
) -> None:
    def chunks() -> Iterator[memoryview]:
        yield memoryview(LARGE)
        raise EOFError("the training is gone")

    with pytest.raises(EOFError, match="the training is gone"):
        store.write("data/large", chunks(), 2 * len(LARGE))

    assert uploads_under_way(direct, prefix) == []
    assert store.list("data/") == []


def test_bytes_that_never_arrive_whole_are_not_tried_for_as_long_as_an_outage(proxy: FaultyS3, prefix: str) -> None:
    patient = S3Store("checkpoints", prefix, patience_seconds=3600)
    proxy.plan("PutObject", Fault.DAMAGED_REQUEST, times=1000)
    with pytest.raises(OSError, match=r"cannot write data/small: "):
        put(patient, "data/small", SMALL)


def test_a_clock_that_stays_wrong_is_named_with_how_far_it_is_off(proxy: FaultyS3, prefix: str) -> None:
    impatient = S3Store("checkpoints", prefix, patience_seconds=0)
    proxy.plan("", Fault.SKEWED_CLOCK, times=1000)
    with pytest.raises(OSError, match=r"this host's clock is 3[56]\d\d s behind that of S3: set it"):
        impatient.put_if_absent("commit/a", b"{}")


def test_a_checksum_that_s3_tells_otherwise_prevents_the_commit(store: S3Store, proxy: FaultyS3) -> None:
    checkpoints = join_run(store)
    first = commit(checkpoints, 1, SMALL)
    proxy.plan("HeadObject", Fault.OTHER_CHECKSUM)

    with pytest.raises(OSError, match="did not keep what it was sent"):
        commit(checkpoints, 2, LARGE)

    assert join_run(store).newest_valid().key == first  # type: ignore[union-attr]


def test_bytes_that_change_on_their_way_back_are_found(store: S3Store, proxy: FaultyS3) -> None:
    checkpoints = join_run(store)
    first = commit(checkpoints, 1, SMALL)
    commit(checkpoints, 2, LARGE)
    proxy.plan("GetObject", Fault.DAMAGED_ANSWER, first=3)  # after the manifest, the second range
    assert join_run(store).newest_valid().key == first  # type: ignore[union-attr]


# Checkpoints that are not whole


@pytest.mark.parametrize("left", [None, 0, len(LARGE) - 1, 5 * MIB])
def test_a_manifest_whose_object_is_missing_empty_or_cut_is_passed_over_for_the_one_before(
    store: S3Store, direct: S3Client, prefix: str, left: int | None
) -> None:
    checkpoints = join_run(store)
    first = commit(checkpoints, 1, LARGE)
    second = commit(checkpoints, 2, LARGE)
    data = f"{prefix}/{json.loads(store.get(second))['objects'][0]['key']}"
    if left is None:
        direct.delete_object(Bucket="checkpoints", Key=data)
    else:
        direct.put_object(Bucket="checkpoints", Key=data, Body=LARGE[:left])

    found = join_run(store).newest_valid()

    assert found is not None
    assert found.key == first
    assert found.tensors == LARGE


def test_objects_without_a_manifest_are_no_checkpoint_and_go_after_the_next_commit(store: S3Store) -> None:
    join_run(store).write_data(step=7, chunks=[memoryview(LARGE)], total_bytes=len(LARGE))
    assert len(store.list("data/")) == 1

    later = join_run(store)
    assert later.newest_valid() is None
    commit(later, 8, SMALL)

    assert [key.split("/")[2][:20] for key in store.list("data/")] == ["e000002-s00000000000"]
    assert store.head(manifest_key(RUN, 2, 8)) is not None


# Retention


def test_objects_are_deleted_only_after_a_commit_and_the_two_newest_valid_checkpoints_stay(
    store: S3Store, direct: S3Client, proxy: FaultyS3, prefix: str
) -> None:
    checkpoints = join_run(store)
    _, second = [commit(checkpoints, step, SMALL) for step in (1, 2)]
    damaged = commit(checkpoints, 3, SMALL)
    data = f"{prefix}/{json.loads(store.get(damaged))['objects'][0]['key']}"
    direct.put_object(Bucket="checkpoints", Key=data, Body=b"")
    later = join_run(store)

    fourth = commit(later, 4, SMALL)
    assert store.list("commit/") == [second, damaged, fourth], "what is damaged is evidence, and does not count"
    proxy.seen.clear()
    fifth = commit(later, 5, SMALL)

    put_manifest = max(number for number, name in enumerate(proxy.seen) if name == "PutObject")
    assert proxy.seen.count("PutObject") == 2
    assert proxy.seen.index("DeleteObject") > put_manifest
    assert store.list("commit/") == [damaged, fourth, fifth]


# Kills


@pytest.mark.parametrize("moment", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
def test_killed_at_any_request_of_a_save_the_newest_checkpoint_is_the_previous_one_or_the_new_one_and_whole(
    proxy: FaultyS3, direct: S3Client, tmp_path: Path, moment: Fault
) -> None:
    bucket = f"killed-{moment.name.lower().replace('_', '-')}"
    direct.create_bucket(Bucket=bucket)
    size = 17 * MIB // 12 * 12
    store = S3Store(bucket, "")
    environ = clean_environ(
        **KEYS, AWS_ENDPOINT_URL=proxy.url, CHECKPOINT_BUCKET=bucket, CHECKPOINT_BYTES=str(size), HOME=str(tmp_path)
    )
    command = [sys.executable, "-m", "tests.trainer.s3_saver"]
    num_killed = 0
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        newest = None
        for step in count(1):
            if step > 1:
                proxy.plan("", moment, first=step - 1)
            saver.stdin.write(f"{step}\n")
            saver.stdin.flush()
            status = int(saver.stdout.readline())
            found = join_run(store).newest_valid()
            assert found is not None
            assert found.manifest["step"] in {newest, step}
            assert found.tensors == content_of_step(found.manifest["step"], size)
            newest = found.manifest["step"]
            if status == 0 and step > 1:
                break
            assert status == (0 if step == 1 else -9)
            num_killed += step > 1
        saver.stdin.close()
    assert newest == step
    assert num_killed >= 15
