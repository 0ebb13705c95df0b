"""The JSON document whose existence makes a checkpoint, and the check of its own bytes."""

import json
from typing import Any

from spotkeeper.contract.checkpoint_layout import FORMAT_VERSION, Manifest, parse_manifest_key
from spotkeeper.trainer.checksum import crc64nvme


class DamagedError(Exception):
    """A checkpoint does not hold what was written; the message says what is wrong with it."""


def seal(content: dict[str, Any]) -> bytes:
    """Return the manifest's bytes: `content`, which lacks only the checksum, and the checksum over it."""
    return json.dumps({**content, "crc64nvme": _checksum(content)}, separators=(",", ":"), allow_nan=False).encode()


def unseal(body: bytes, key: str, run_id: str) -> Manifest:
    """Return the manifest stored under `key`.

    Raises:
        DamagedError: if the bytes are not those of a manifest of this run, epoch and step.
        ValueError: if it is sound, but in a format that this version does not know.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise DamagedError(f"the manifest is not JSON: {error}") from error
    if not isinstance(content, dict) or content.pop("crc64nvme", None) != _checksum(content):
        raise DamagedError("the manifest does not match its own checksum")
    if seal(content) != body:
        # As with a bit that turns 1e-08 into 1E-08: it means the same, but what changed one byte may change the next.
        raise DamagedError("the manifest is not written as it was")
    if content["format"] != FORMAT_VERSION:
        raise ValueError(
            f"{key} has checkpoint format {content['format']!r}; this spotkeeper reads format {FORMAT_VERSION}: "
            "install the version that wrote it, or start a new run"
        )
    if (content["epoch"], content["step"]) != parse_manifest_key(key) or content["run_id"] != run_id:
        raise DamagedError(
            f"the manifest is that of run {content['run_id']}, epoch {content['epoch']}, step {content['step']}"
        )
    manifest: Manifest = {**content, "crc64nvme": ""}  # type: ignore[typeddict-item]  # sealed by this module
    return manifest


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return crc64nvme(canonical.encode())
