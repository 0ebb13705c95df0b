import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from spotkeeper.ops import source
from spotkeeper.ops.source import pack


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_same_files_give_the_same_bytes_whatever_their_times_order_and_owner_bits(tmp_path: Path) -> None:
    files = {"train.py": "print(1)", "pkg/b.py": "b", "pkg/a.py": "a"}
    first = write(tmp_path / "first", files)
    second = write(tmp_path / "elsewhere" / "second", dict(reversed(files.items())))
    os.utime(second / "train.py", (1, 1))
    (second / "pkg/a.py").chmod(0o600)

    packed = pack(first)

    assert packed == pack(second)
    assert packed.sha256 == hashlib.sha256(packed.archive).hexdigest()


def test_a_changed_byte_name_or_executable_bit_gives_another_archive(tmp_path: Path) -> None:
    root = write(tmp_path, {"train.py": "print(1)"})
    seen = {pack(root).sha256}

    (root / "train.py").write_text("print(2)")
    seen.add(pack(root).sha256)
    (root / "train.py").chmod(0o755)
    seen.add(pack(root).sha256)
    (root / "train.py").rename(root / "main.py")
    seen.add(pack(root).sha256)

    assert len(seen) == 4


def test_the_archive_holds_names_and_contents_and_nothing_of_the_machine(tmp_path: Path) -> None:
    packed = pack(write(tmp_path, {"train.py": "print(1)", "pkg/a.py": "a"}))

    flags, written_at = packed.archive[3], packed.archive[4:8]
    assert (flags, written_at) == (0, bytes(4)), "gzip's header holds neither name nor time"
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as tar:
        members = tar.getmembers()
        content = tar.extractfile("train.py")
        assert content is not None
        assert content.read() == b"print(1)"
    assert [member.name for member in members] == ["pkg/a.py", "train.py"]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }
    assert packed.files == {"train.py", "pkg/a.py"}


def test_caches_and_version_control_stay_out_and_the_ignore_file_adds_to_them(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "train.py": "",
            ".git/config": "",
            "pkg/__pycache__/a.pyc": "",
            "b.pyc": "",
            ".venv/bin/python": "",
            "node_modules/x/index.js": "",
            "data/big.bin": "",
            "pkg/data/keep.txt": "",
            "notes.md": "",
            "pkg/notes.md": "",
            "build": "a file, not a folder",
            "out/build/x": "",
            ".spotkeeperignore": "# mine\n/data\n*.md\nbuild/\n\n",
        },
    )

    assert pack(root).files == {".spotkeeperignore", "train.py", "pkg/data/keep.txt", "build"}


SECRETS = {
    ".env": "",
    ".env.local": "",
    "deploy/server.pem": "",
    "deploy/tls.key": "",
    "id_rsa": "",
    "id_rsa.pub": "",
    "keys/id_ed25519": "",
    ".aws/credentials": "",
    ".ssh/config": "",
    ".netrc": "",
    "checkpoints/train/commit/1.json": "",
}


def test_secrets_and_old_checkpoints_stay_out_and_are_named(tmp_path: Path) -> None:
    packed = pack(write(tmp_path, {"train.py": "", "pkg/a.py": "", ".git/config": "", "pkg/a.pyc": "", **SECRETS}))

    assert packed.files == {"train.py", "pkg/a.py"}
    assert packed.left_out == (
        ".aws/",
        ".env",
        ".env.local",
        ".netrc",
        ".ssh/",
        "checkpoints/",
        "deploy/server.pem",
        "deploy/tls.key",
        "id_rsa",
        "id_rsa.pub",
        "keys/id_ed25519",
    )


def test_the_ignore_file_can_send_what_is_left_out_by_default(tmp_path: Path) -> None:
    root = write(tmp_path, {"train.py": "", ".spotkeeperignore": "!.env.example\n!checkpoints/\n", **SECRETS})
    write(root, {".env.example": "", "checkpoints/__init__.py": ""})

    packed = pack(root)

    assert {".env.example", "checkpoints/__init__.py", "checkpoints/train/commit/1.json"} <= packed.files
    assert ".env" in packed.left_out


def test_gitignore_files_hold_in_their_folder_and_the_deeper_one_goes_first(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            ".gitignore": "*.log\n/data/\nout/*\n!out/keep.txt\n",
            "train.py": "",
            "a.log": "",
            "data/big.bin": "",
            "pkg/data/small.bin": "",
            "out/x.txt": "",
            "out/keep.txt": "",
            "pkg/.gitignore": "!b.log\n/own.txt\n",
            "pkg/b.log": "",
            "pkg/c.log": "",
            "pkg/own.txt": "",
            "pkg/deep/own.txt": "",
        },
    )

    packed = pack(root)

    assert packed.files == {
        ".gitignore",
        "train.py",
        "out/keep.txt",
        "pkg/.gitignore",
        "pkg/b.log",
        "pkg/data/small.bin",
        "pkg/deep/own.txt",
    }
    assert packed.left_out == ("a.log", "data/", "out/x.txt", "pkg/c.log", "pkg/own.txt")


def test_what_git_ignores_is_sent_if_the_ignore_file_of_spotkeeper_says_so(tmp_path: Path) -> None:
    files = {"train.py": "", "configs/local.yaml": "", ".gitignore": "local.yaml\n"}

    assert "configs/local.yaml" not in pack(write(tmp_path, files)).files
    (tmp_path / ".spotkeeperignore").write_text("!local.yaml\n")
    assert "configs/local.yaml" in pack(tmp_path).files


def test_a_gitignore_cannot_send_a_secret(tmp_path: Path) -> None:
    packed = pack(write(tmp_path, {"train.py": "", ".env": "", "server.pem": "", ".gitignore": "!.env\n!*.pem\n"}))

    assert packed.left_out == (".env", "server.pem")


def test_nothing_below_a_folder_that_is_left_out_comes_back_as_with_git(tmp_path: Path) -> None:
    packed = pack(
        write(tmp_path, {"train.py": "", "data/keep.txt": "", ".spotkeeperignore": "data/\n!data/keep.txt\n"})
    )

    assert packed.left_out == ("data/",)


def test_a_folder_of_which_nothing_is_left_is_refused_naming_what_was_left_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no files but what is left out: \.env"):
        pack(write(tmp_path, {".env": ""}))


def test_a_link_inside_the_folder_stays_a_link(tmp_path: Path) -> None:
    root = write(tmp_path, {"train.py": "x", "pkg/a.py": ""})
    (root / "pkg" / "main.py").symlink_to(root / "train.py")

    with tarfile.open(fileobj=io.BytesIO(pack(root).archive)) as tar:
        assert tar.getmember("pkg/main.py").linkname == "../train.py"


@pytest.mark.parametrize("target", ["secret.txt", "folder"])
def test_a_link_out_of_the_folder_is_refused_naming_link_and_target(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"secret.txt": "", "folder/x": "", "root/train.py": ""})
    (tmp_path / "root" / "link").symlink_to(tmp_path / target)

    with pytest.raises(ValueError, match=rf"root/link links to .*/{target}, outside the source folder"):
        pack(tmp_path / "root")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, {"train.py": ""}) / "pipe")

    with pytest.raises(ValueError, match="pipe is neither file, folder nor link"):
        pack(tmp_path)


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a folder, got '.*/nowhere'"):
        pack(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no files"):
        pack(tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        pack(write(tmp_path, {"train.py": ""}) / "train.py")


def test_too_large_a_folder_is_refused_naming_its_largest_files(tmp_path: Path) -> None:
    root = write(tmp_path, {"train.py": ""})
    for name, size_mib in (("weights.bin", 150), ("data/train.bin", 90)):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size_mib * 2**20)  # sparse: takes no disk

    with pytest.raises(
        ValueError, match=r"has 240 MB; 200 MB are allowed. Largest: weights.bin \(150 MB\), data/train"
    ):
        pack(root)
    assert source.MAX_BYTES == 200 * 2**20
