"""Where checkpoints lie and what a manifest says.

    epoch/<run>/<epoch:06>                          marks that an attempt with this epoch has started
    data/<run>/e<epoch:06>-s<step:012>-<nonce>/r<rank>.safetensors   immutable, never overwritten
    data/<run>/e<epoch:06>-s<step:012>-<nonce>/f<number:06>          the same, a file of a checkpoint folder
    commit/<run>/<epoch:06>-<step:012>.json         the manifest: its creation is the only commit point
    completion/<run>.json                           in a mirror alone: the program of a run without network has finished
    mirror/<run>/…                                  the same tree again, as SageMaker copies it out of the container

The kind stands before the run because S3 lifecycle rules and bucket policies match by prefix: noncurrent
versions of `data/` expire after a day, those of `commit/` after 30, and `commit/` takes no overwrite.
Zero-padded numbers make the lexical order of a listing the order (epoch, step).
"""

import re
from typing import Any, Final, NotRequired, TypedDict

FORMAT_VERSION: Final = 1
DEFAULT_KEEP: Final = 2
"""Valid checkpoints that are kept, unless a program says otherwise: the newest, and one in case it is damaged."""

DATA_PREFIX: Final = "data/"
COMMIT_PREFIX: Final = "commit/"
EPOCH_PREFIX: Final = "epoch/"
SOURCE_PREFIX: Final = "source/"
MIRROR_PREFIX: Final = "mirror/"
"""SageMaker's own folder mirror writes here, outside the no-overwrite rule of `commit/`."""
COMPLETION_PREFIX: Final = "completion/"

_MANIFEST_KEY = re.compile(r"commit/(?P<run>[^/]+)/(?P<epoch>\d{6})-(?P<step>\d{12})\.json")
_DATA_FOLDER = re.compile(r"data/[^/]+/e(?P<epoch>\d{6})-s(?P<step>\d{12})-[^/]+/")


class StoredObject(TypedDict):
    """One immutable object of a checkpoint."""

    key: str
    bytes: int
    crc64nvme: str
    """Base64 of the big-endian CRC64NVME of the whole object, as S3 writes it."""
    version_id: str | None


class StoredFile(TypedDict):
    """A file, or a symbolic link, of a checkpoint folder."""

    path: str
    """Relative to the folder, with slashes."""
    mode: int
    """Permission bits."""
    object: NotRequired[int]
    """Index of its content among the manifest's objects; files of earlier checkpoints share those."""
    link: NotRequired[str]
    """Of a link instead: where it points, relative to itself."""


class Manifest(TypedDict):
    """The JSON of a manifest. `crc64nvme` covers the canonical JSON of everything else in it."""

    format: int
    run_id: str
    epoch: int
    step: int
    world_size: int
    """Number of processes that trained together; each has written one of the objects."""
    cause: str
    """periodic, rebalance, notice, signal, requested or final."""
    created_at: str
    parent: str | None
    """Key of the manifest from which this attempt resumed."""
    objects: list[StoredObject]
    """By rank. That of rank 0 holds what all processes have in common, and its own; each other one its own."""
    state: dict[str, Any]
    """Everything of rank 0 that is not a tensor; tensors are named by reference into its object."""
    rank_states: NotRequired[list[dict[str, Any]]]
    """The same of rank 1, 2 and so on; not there for a single process."""
    files: NotRequired[list[StoredFile]]
    """Of a checkpoint folder: what lay in it. Objects are then files' contents, and `state` is empty."""
    crc64nvme: str


class CompletionRecord(TypedDict):
    """The JSON of a completion record, by an attempt that cannot reach the ledger."""

    run_id: str
    step: int | None
    """Last step of a program that uses the library; None for any other."""
    manifest: NotRequired[str | None]
    """Key of the program's last checkpoint, None if it made none. Files are mirrored in no order: the record proves
    nothing before this one is whole. That of an older image lacks it."""
    completed_at: str
    """ISO 8601, UTC."""


def mirror_prefix(run_id: str) -> str:
    """Prefix to which SageMaker mirrors the checkpoint folder of a run; keys behind it are those of this layout."""
    return f"{MIRROR_PREFIX}{run_id}/"


def completion_key(run_id: str) -> str:
    """Key of the completion record of a run without network."""
    return f"{COMPLETION_PREFIX}{run_id}.json"


def epoch_prefix(run_id: str) -> str:
    """Prefix that lists the epochs of a run."""
    return f"{EPOCH_PREFIX}{run_id}/"


def epoch_key(run_id: str, epoch: int) -> str:
    """Key of the marker that an attempt writes, with If-None-Match, before it trains."""
    return f"{EPOCH_PREFIX}{run_id}/{epoch:06d}"


def commit_prefix(run_id: str) -> str:
    """Prefix that lists the manifests of a run."""
    return f"{COMMIT_PREFIX}{run_id}/"


def manifest_key(run_id: str, epoch: int, step: int) -> str:
    """Key of a manifest."""
    return f"{COMMIT_PREFIX}{run_id}/{epoch:06d}-{step:012d}.json"


def parse_manifest_key(key: str) -> tuple[int, int] | None:
    """Return (epoch, step) of a manifest's key, or None for any other key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return (int(match["epoch"]), int(match["step"])) if match else None


def data_key(run_id: str, epoch: int, step: int, nonce: str, rank: int) -> str:
    """Key of the tensors that one rank writes for one checkpoint. `nonce` makes every save's folder new."""
    return f"{DATA_PREFIX}{run_id}/e{epoch:06d}-s{step:012d}-{nonce}/r{rank}.safetensors"


def file_key(run_id: str, epoch: int, step: int, nonce: str, number: int) -> str:
    """Key of the content of one file of a checkpoint folder."""
    return f"{DATA_PREFIX}{run_id}/e{epoch:06d}-s{step:012d}-{nonce}/f{number:06d}"


def parse_data_key(key: str) -> tuple[int, int] | None:
    """Return (epoch, step) of the save in whose folder an object lies, whatever it is; None for any other key."""
    match = _DATA_FOLDER.match(key)
    return (int(match["epoch"]), int(match["step"])) if match else None


def source_key(sha256: str) -> str:
    """Key of an uploaded source archive, named by its content."""
    return f"{SOURCE_PREFIX}{sha256}.tar.gz"
