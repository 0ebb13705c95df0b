import json
import os
import random
import re
import resource
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from spotkeeper.contract.checkpoint_layout import epoch_key, manifest_key
from spotkeeper.contract.exit_codes import EXIT_FENCED
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.aws_refusal import remedy
from spotkeeper.trainer.checkpoint import Checkpoints, FencedError
from spotkeeper.trainer.checksum import PART_BYTES, Crc64Nvme, crc64nvme
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.manifest import seal
from spotkeeper.trainer.s3_store import S3Store
from spotkeeper.trainer.store import Stat, Store
from spotkeeper.trainer.store_address import open_store

RUN = "tiny"
CONTENT = bytes(range(256)) * 8


@pytest.fixture
def s3_bucket(aws: dict[str, str], request: pytest.FixtureRequest) -> str:
    name = f"checkpoints-{abs(hash(request.node.nodeid))}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    assert aws["AWS_ENDPOINT_URL"] in client.meta.endpoint_url
    return name


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path)
    return S3Store(request.getfixturevalue("s3_bucket"), "some/prefix")


def join_run(store: Store, epoch: int | None = None, keep: int = 2) -> Checkpoints:
    return Checkpoints(store, run_id=RUN, keep=keep, epoch=epoch)


def commit(checkpoints: Checkpoints, step: int, tensors: bytes = CONTENT) -> str:
    stored = checkpoints.write_data(step=step, chunks=[memoryview(tensors)], total_bytes=len(tensors))
    return checkpoints.commit(step=step, cause="periodic", stored=stored, state={"step": step})


def put(store: Store, key: str, content: bytes) -> None:
    assert store.write(key, [memoryview(content)], len(content)) == crc64nvme(content)


def events(text: str, event: str) -> list[dict[str, object]]:
    lines = [parse_line(line) for line in text.splitlines()]
    return [line for line in lines if line is not None and line["event"] == event]


# Stores


def test_a_key_is_created_once(store: Store) -> None:
    assert store.put_if_absent("commit/a", b"first")
    assert not store.put_if_absent("commit/a", b"second")
    assert store.get("commit/a") == b"first"


def test_a_store_lists_reads_and_deletes_what_it_holds(store: Store) -> None:
    put(store, "data/a/2", b"two")
    put(store, "data/a/1", b"")
    put(store, "data/b/1", b"other")

    assert store.list("data/a/") == ["data/a/1", "data/a/2"]
    stat = store.head("data/a/2")
    assert stat is not None
    assert (stat.bytes, stat.crc64nvme) == (3, crc64nvme(b"two"))
    store.delete("data/a/2")
    assert store.list("data/a/") == ["data/a/1"]
    assert store.head("data/a/2") is None
    with pytest.raises(FileNotFoundError):
        store.get("data/a/2")
    store.delete("data/a/2")


def test_a_folder_counts_no_checksum_again_of_what_it_has_written_unless_the_size_has_changed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put(store, "data/a/1", b"written")
    (tmp_path / "data" / "a" / "1").write_bytes(b"damaged")
    (tmp_path / "data" / "a" / "2").write_bytes(b"another's")

    known, unknown = store.head("data/a/1"), store.head("data/a/2")
    (tmp_path / "data" / "a" / "1").write_bytes(b"cut")

    assert known == Stat(bytes=7, crc64nvme=crc64nvme(b"written"))
    assert unknown == Stat(bytes=9, crc64nvme=crc64nvme(b"another's"))
    assert store.head("data/a/1") == Stat(bytes=3, crc64nvme=crc64nvme(b"cut"))
    assert LocalStore(tmp_path).head("data/a/1") == Stat(bytes=3, crc64nvme=crc64nvme(b"cut"))


def test_a_folder_is_listed_while_somebody_else_deletes_checkpoints_in_it(tmp_path: Path) -> None:
    outlived = [f"data/{number}/a" for number in range(300)]
    for key in [*outlived, "data/newest"]:
        put(LocalStore(tmp_path), key, CONTENT)

    def remove() -> None:
        for key in outlived:
            LocalStore(tmp_path).delete(key)

    remover = threading.Thread(target=remove)

    remover.start()
    found = [LocalStore(tmp_path).list("data/")]
    while remover.is_alive():
        found.append(LocalStore(tmp_path).list("data/"))
    remover.join()

    assert all("data/newest" in keys for keys in found)
    assert LocalStore(tmp_path).list("data/") == ["data/newest"]


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "data")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        LocalStore(tmp_path).list("data/")


def test_crc64nvme_is_the_published_one() -> None:
    # "123456789" -> AE8B14860A799888, the check value of CRC-64/NVME in the catalogue of parametrised CRCs
    assert crc64nvme(b"123456789") == "rosUhgp5mIg="


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 7])
def test_a_checksum_that_threads_count_together_is_that_of_one(size: int) -> None:
    content = random.Random(size).randbytes(size)
    alone = Crc64Nvme()
    alone.add(content)
    assert crc64nvme(content) == alone.text()


def test_a_chunk_counts_before_the_next_one_may_take_its_memory() -> None:
    arena = bytearray(4 * PART_BYTES)

    def chunks() -> Iterator[memoryview]:
        for number in range(1, 6):
            arena[-1] = number  # at once, and the last byte to be counted
            yield memoryview(arena)

    beside, alone = Crc64Nvme(), Crc64Nvme()
    for _ in beside.beside(chunks()):
        pass
    for chunk in chunks():
        alone.add(chunk)
    assert beside.text() == alone.text()


def test_a_bucket_that_is_not_there_is_an_outage_and_not_a_damaged_checkpoint(aws: dict[str, str]) -> None:
    assert aws
    with pytest.raises(OSError, match="NoSuchBucket") as raised:
        S3Store("nowhere-at-all", "").get("commit/a")
    assert not isinstance(raised.value, FileNotFoundError)


@pytest.mark.parametrize("uri", ["s3://", "gs://bucket", "file:///tmp/a", ""])
def test_an_address_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        open_store(uri)


# Commit and resume


def test_the_newest_checkpoint_is_resumed(store: Store) -> None:
    checkpoints = join_run(store)
    commit(checkpoints, 5)
    commit(checkpoints, 9, CONTENT[::-1])

    found = join_run(store).newest_valid()

    assert found is not None
    assert found.manifest["step"] == 9
    assert found.manifest["state"] == {"step": 9}
    assert found.tensors == CONTENT[::-1]


def test_a_later_epoch_wins_over_a_later_step(store: Store) -> None:
    commit(join_run(store), 100)
    second = join_run(store)
    commit(second, 60)

    found = join_run(store).newest_valid()

    assert found is not None
    assert (found.manifest["epoch"], found.manifest["step"]) == (2, 60)


def test_a_new_run_has_nothing_to_resume(store: Store) -> None:
    assert join_run(store).newest_valid() is None


def test_data_without_a_manifest_is_no_checkpoint(store: Store) -> None:
    put(store, "data/tiny/e000001-s000000000007-0badcafe/r0.safetensors", CONTENT)

    assert join_run(store).newest_valid() is None


def test_an_attempt_that_finds_a_checkpoint_gone_because_a_newer_one_let_it_go_is_fenced(tmp_path: Path) -> None:
    commit(join_run(LocalStore(tmp_path)), 5)

    class Overtaken(LocalStore):
        """A folder in which a newer attempt starts, and deletes, between the listing of manifests and their reading."""

        def get(self, key: str) -> bytes:
            if key.startswith("commit/") and not newer:
                newer.append(join_run(LocalStore(tmp_path)))
                self.delete(key)
            return super().get(key)

    newer: list[Checkpoints] = []

    with pytest.raises(FencedError):
        join_run(Overtaken(tmp_path)).newest_valid()


def test_a_run_is_as_old_as_its_first_attempt(store: Store) -> None:
    began = {"started_at": (datetime.now(UTC) - timedelta(hours=2)).isoformat()}
    store.put_if_absent(epoch_key("tiny", 1), json.dumps(began).encode())

    assert join_run(store).run_seconds() == pytest.approx(7200, abs=60)
    store.delete(epoch_key("tiny", 1))
    assert join_run(store).run_seconds() == 0
    store.put_if_absent(epoch_key("tiny", 1), b"nothing that tells")
    assert join_run(store).run_seconds() == 0


def test_the_manifest_says_what_it_continues(store: Store) -> None:
    first = commit(join_run(store), 5)
    second = join_run(store)
    second.newest_valid()

    key = commit(second, 8)

    assert json.loads(store.get(key))["parent"] == first


def test_the_same_manifest_put_twice_after_a_lost_reply_is_a_success(tmp_path: Path) -> None:
    class LosesReply(LocalStore):
        """A store whose first reply to a manifest is lost, so that its client asks again and is refused."""

        def put_if_absent(self, key: str, body: bytes) -> bool:
            is_created = super().put_if_absent(key, body)
            return is_created and not key.startswith("commit/")

    store = LosesReply(tmp_path)
    commit(join_run(store), 5)

    assert join_run(store).newest_valid() is not None


def test_a_step_that_is_committed_already_is_not_replaced_and_leaves_no_second_copy(store: Store) -> None:
    """As when the writer process dies right after a commit, and another one is given the same save."""
    checkpoints = join_run(store)
    key = commit(checkpoints, 5)
    before, data = store.get(key), store.list("data/")

    assert commit(checkpoints, 5) == key

    assert store.get(key) == before
    assert store.list("data/") == data


def test_a_step_whose_manifest_is_damaged_cannot_be_committed_again(store: Store) -> None:
    checkpoints = join_run(store)
    store.put_if_absent(manifest_key("tiny", 1, 5), b"{}")

    with pytest.raises(FileExistsError, match="exists already, and is damaged: step 5"):
        commit(checkpoints, 5)


def damage_flip(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def damage_truncate(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def damage_remove(path: Path, _generator: random.Random) -> None:
    path.unlink()


def damage_garbage(path: Path, generator: random.Random) -> None:
    path.write_bytes(generator.randbytes(300))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, damage_garbage, damage_remove])
@pytest.mark.parametrize("part", ["data", "commit"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, damage: object, seed: int
) -> None:
    checkpoints = join_run(LocalStore(tmp_path))
    commit(checkpoints, 5)
    newest = commit(checkpoints, 9)
    (victim,) = list((tmp_path / part).rglob("*s000000000009*/*")) or [tmp_path / newest]
    assert callable(damage)
    damage(victim, random.Random(seed))

    found = join_run(LocalStore(tmp_path)).newest_valid()

    assert found is not None
    assert found.manifest["step"] == 5
    reported = events(capsys.readouterr().out, "damaged")
    if part == "data" or victim.exists():
        assert [line["manifest"] for line in reported] == [newest]
        assert reported[0]["reason"]
        assert (tmp_path / newest).exists()


def test_a_bit_that_changes_how_the_manifest_is_written_and_not_what_it_says_is_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = join_run(LocalStore(tmp_path))
    stored = checkpoints.write_data(step=5, chunks=[memoryview(CONTENT)], total_bytes=len(CONTENT))
    manifest = tmp_path / checkpoints.commit(step=5, cause="periodic", stored=stored, state={"eps": 1e-08})
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b"1e-08", b"1E-08"))

    assert json.loads(manifest.read_bytes()) == json.loads(content)
    assert join_run(LocalStore(tmp_path)).newest_valid() is None
    assert "not written as it was" in str(events(capsys.readouterr().out, "damaged")[0]["reason"])


def test_content_that_changed_in_s3_behind_its_checksum_is_found_on_reading(
    s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = S3Store(s3_bucket, "")
    checkpoints = join_run(store)
    commit(checkpoints, 5)
    newest = commit(checkpoints, 9)
    key = json.loads(store.get(newest))["objects"][0]["key"]
    client: S3Client = boto3.client("s3")
    # moto stores the checksum it is told, so this object carries that of the content it should have.
    client.put_object(
        Bucket=s3_bucket,
        Key=key,
        Body=CONTENT[::-1],
        ChecksumAlgorithm="CRC64NVME",
        ChecksumCRC64NVME=crc64nvme(CONTENT),
    )

    found = join_run(store).newest_valid()

    assert found is not None
    assert found.manifest["step"] == 5
    assert [line["manifest"] for line in events(capsys.readouterr().out, "damaged")] == [newest]


def test_an_upload_that_s3_keeps_with_another_checksum_is_not_committed(s3_bucket: str) -> None:
    class Tampered(S3Store):
        """A store whose network changes every data object on its way."""

        def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
            body = b"".join(chunks)
            super().write(key, [memoryview(body[::-1])], total_bytes)
            return crc64nvme(body)

    with pytest.raises(OSError, match="did not keep what it was sent"):
        commit(join_run(Tampered(s3_bucket, "")), 5)
    assert join_run(S3Store(s3_bucket, "")).newest_valid() is None


def test_a_manifest_of_another_run_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path)
    key = commit(join_run(store), 5)
    store.put_if_absent("commit/other/000001-000000000005.json", store.get(key))

    assert Checkpoints(store, run_id="other", keep=2, epoch=None).newest_valid() is None
    assert "run tiny, epoch 1, step 5" in str(events(capsys.readouterr().out, "damaged")[0]["reason"])


def test_a_sound_manifest_of_an_unknown_format_is_an_error_and_not_a_reason_to_start_over(store: Store) -> None:
    store.put_if_absent(manifest_key(RUN, 1, 5), seal({"format": 2, "run_id": RUN, "epoch": 1, "step": 5}))

    with pytest.raises(ValueError, match="has checkpoint format 2; this spotkeeper reads format 1"):
        join_run(store).newest_valid()


# Epochs


def test_every_attempt_without_a_ledger_gets_the_next_epoch(store: Store) -> None:
    assert [join_run(store).epoch for _ in range(3)] == [1, 2, 3]


def test_the_ledger_s_epoch_is_taken_again_by_the_same_attempt(store: Store) -> None:
    assert [join_run(store, epoch=4).epoch, join_run(store, epoch=4).epoch] == [4, 4]


def test_an_attempt_that_starts_behind_a_newer_one_is_refused(store: Store) -> None:
    join_run(store, epoch=4)

    with pytest.raises(FencedError, match=str(EXIT_FENCED)) as raised:
        join_run(store, epoch=3)
    assert raised.value.reason == "epoch 4 has started; this attempt has epoch 3"


def test_an_attempt_that_was_overtaken_commits_nothing(store: Store) -> None:
    zombie = join_run(store)
    commit(zombie, 5)
    successor = join_run(store)
    found = successor.newest_valid()
    assert found is not None

    with pytest.raises(FencedError):
        commit(zombie, 9)

    newest = join_run(store).newest_valid()
    assert newest is not None
    assert newest.manifest["step"] == 5


def test_checkpoints_copied_without_their_markers_still_fence(store: Store) -> None:
    commit(join_run(store, epoch=7), 5)
    store.delete(epoch_key(RUN, 7))

    assert join_run(store).epoch == 8
    with pytest.raises(FencedError):
        join_run(store, epoch=2)


# What may go


def keys_of_steps(store: Store, kind: str) -> list[str]:
    return store.list(f"{kind}/{RUN}/")


def test_the_newest_valid_checkpoints_are_kept_and_older_ones_go_with_their_data(store: Store) -> None:
    checkpoints = join_run(store, keep=2)
    for step in (1, 2, 3, 4):
        commit(checkpoints, step)

    assert keys_of_steps(store, "commit") == [manifest_key(RUN, 1, 3), manifest_key(RUN, 1, 4)]
    assert len(keys_of_steps(store, "data")) == 2


def test_a_damaged_checkpoint_does_not_count_as_one_that_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path)
    first = join_run(store, keep=2)
    for step in (1, 2):
        commit(first, step)
    (data_of_2,) = (tmp_path / "data").rglob("*s000000000002*/*")
    data_of_2.write_bytes(b"torn")
    second = join_run(store, keep=2)
    second.newest_valid()

    commit(second, 3)
    assert [key[-8:-5] for key in keys_of_steps(store, "commit")] == ["001", "002", "003"]
    commit(second, 4)

    kept = keys_of_steps(store, "commit")
    assert [key[-8:-5] for key in kept] == ["002", "003", "004"]
    assert data_of_2.exists()
    assert len(events(capsys.readouterr().out, "damaged")) == 1


def test_data_that_killed_attempts_left_uncommitted_is_swept(store: Store) -> None:
    orphan = "data/tiny/e000001-s000000000007-0badcafe/r0.safetensors"
    put(store, orphan, CONTENT)
    join_run(store)
    second = join_run(store)

    commit(second, 1)

    (left,) = keys_of_steps(store, "data")
    assert left.startswith("data/tiny/e000002-s000000000001-")


def test_data_of_its_own_epoch_is_not_swept(store: Store) -> None:
    join_run(store)
    second = join_run(store)
    under_way = "data/tiny/e000002-s000000000007-0badcafe/r0.safetensors"
    put(store, under_way, CONTENT)

    commit(second, 1)

    assert under_way in keys_of_steps(store, "data")


def test_what_a_failed_save_left_goes_with_the_next_commit(tmp_path: Path) -> None:
    class Refuses(LocalStore):
        """A store that is full when the manifest of step 5 is to be written."""

        def put_if_absent(self, key: str, body: bytes) -> bool:
            if key.endswith("000000000005.json"):
                raise OSError("no room")
            return super().put_if_absent(key, body)

    store = Refuses(tmp_path)
    checkpoints = join_run(store)
    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            commit(checkpoints, 5)
    assert len(keys_of_steps(store, "data")) == 2

    commit(checkpoints, 6)

    (left,) = keys_of_steps(store, "data")
    assert "s000000000006-" in left


def test_a_save_that_failed_after_its_manifest_was_there_keeps_its_data(tmp_path: Path) -> None:
    class LosesEveryReply(LocalStore):
        """A store that keeps the manifest of step 5 and fails to say so."""

        def put_if_absent(self, key: str, body: bytes) -> bool:
            is_created = super().put_if_absent(key, body)
            if key.endswith("000000000005.json"):
                raise OSError("connection lost")
            return is_created

    store = LosesEveryReply(tmp_path)
    checkpoints = join_run(store)
    with pytest.raises(OSError, match="connection lost"):
        commit(checkpoints, 5)
    commit(checkpoints, 6)
    (tmp_path / manifest_key(RUN, 1, 6)).unlink()

    found = join_run(store).newest_valid()
    assert found is not None
    assert found.manifest["step"] == 5


def test_an_overtaken_attempt_deletes_nothing_of_its_successor(tmp_path: Path) -> None:
    class Overtaken(LocalStore):
        """A store in which a successor commits three times between the old attempt's last check and its commit."""

        def put_if_absent(self, key: str, body: bytes) -> bool:
            if key == manifest_key(RUN, 1, 9):
                successor = join_run(LocalStore(tmp_path), keep=5)
                for step in (10, 11, 12):
                    commit(successor, step)
            return super().put_if_absent(key, body)

    commit(join_run(Overtaken(tmp_path)), 9)

    kept = keys_of_steps(LocalStore(tmp_path), "commit")
    assert [manifest_key(RUN, 2, step) for step in (10, 11, 12)] == kept[-3:]


def test_names_and_bytes_are_on_the_disk_before_anything_is_built_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, link, unlink = os.fsync, os.link, os.unlink

    def told(call: str, path: object) -> tuple[str, str]:
        return call, re.sub(r"\.[0-9a-f]{8}\.partial", ".partial", os.path.relpath(str(path), tmp_path))

    def recording_fsync(descriptor: int) -> None:
        calls.append(told("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def recording_link(source: Path, target: Path) -> None:
        calls.append(told("link", target))
        link(source, target)

    def recording_unlink(path: Path) -> None:
        calls.append(told("unlink", path))
        unlink(path)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "link", recording_link)
    monkeypatch.setattr(os, "unlink", recording_unlink)
    store = LocalStore(tmp_path)

    put(store, "data/a/1", b"one")
    created = calls.copy()
    calls.clear()
    store.delete("data/a/1")

    assert created == [
        ("fsync", "."),  # the name data
        ("fsync", "data"),  # the name data/a
        ("fsync", "data/a/1.partial"),
        ("link", "data/a/1"),
        ("unlink", "data/a/1.partial"),
        ("fsync", "data/a"),
    ]
    assert calls == [("unlink", "data/a/1"), ("fsync", "data/a")]


def test_a_write_that_meets_another_one_is_sent_again(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    statuses = [409, 409, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0)
            body = b"<Error><Code>ConditionalRequestConflict</Code></Error>" if status == 409 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        assert S3Store("bucket", "").put_if_absent("commit/a", b"{}")
        server.shutdown()
        thread.join()
    assert statuses == []


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "NoSuchBucket"])
def test_what_no_retry_cures_is_told_from_an_outage(code: str) -> None:
    assert remedy(ClientError({"Error": {"Code": code}}, "PutObject"))
    for passing in ("SlowDown", "InternalError", "ExpiredToken", "RequestTimeTooSkewed"):
        assert remedy(ClientError({"Error": {"Code": passing}}, "PutObject")) is None


def test_fewer_than_two_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keep must be at least 2.*got 1"):
        join_run(LocalStore(tmp_path), keep=1)


def test_a_disk_that_takes_no_more_leaves_the_earlier_checkpoint_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    checkpoints = join_run(LocalStore(tmp_path))
    commit(checkpoints, 1)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            commit(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    found = join_run(LocalStore(tmp_path)).newest_valid()
    assert found is not None
    assert found.manifest["step"] == 1


def test_an_upload_in_several_parts_is_verified_as_a_whole(s3_bucket: str) -> None:
    content = os.urandom(9 * 1024 * 1024)  # boto3 divides from 8 MiB
    commit(join_run(S3Store(s3_bucket, "")), 5, content)

    found = join_run(S3Store(s3_bucket, "")).newest_valid()

    assert found is not None
    assert found.tensors == content
