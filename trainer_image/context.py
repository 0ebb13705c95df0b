"""The files that may enter the image, and the fingerprint by which its tag tells them."""

import hashlib
from pathlib import Path
from typing import Final

DOCKERFILE: Final = "trainer_image/Dockerfile"


def context_files(root: Path) -> tuple[Path, ...]:
    """Return what Docker takes from a repository: the allow-list beside the Dockerfile, and the Dockerfile itself.

    Raises:
        ValueError: if the list names what does not exist.
    """
    lines = (root / f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    files = {root / DOCKERFILE}
    for name in (line.removeprefix("!") for line in lines if line.startswith("!")):
        found = root / name
        if not found.exists():
            raise ValueError(f"{DOCKERFILE}.dockerignore names {name!r}, which does not exist: correct the list")
        files |= {found} if found.is_file() else {path for path in found.rglob("*") if path.is_file()}
    return tuple(sorted(path for path in files if "__pycache__" not in path.parts))


def fingerprint(root: Path) -> str:
    """Return the SHA-256 of names and contents of the context, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in context_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
