"""Which files of a source folder are sent: rules with the grammar and the meaning of gitignore.

Three sources of rules, the first that says something about a path decides: `.spotkeeperignore` files, what is never
sent unasked (version control, caches, secrets, checkpoints), `.gitignore` files. Within one source the file of the
deepest folder goes first, and in a file the last line that matches. As with git, nothing can be re-included below a
folder that is left out. Files outside the source folder have no say.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".spotkeeperignore"

_NOISE: Final = GitIgnoreSpec.from_lines(
    [
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "__pycache__",
        "node_modules",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".ipynb_checkpoints",
        ".DS_Store",
        "*.pyc",
    ]
)
"""What no program needs; nobody has to be told."""

_UNASKED: Final = GitIgnoreSpec.from_lines(
    [
        ".env*",
        "*.pem",
        "*.key",
        "id_rsa*",
        "id_dsa*",
        "id_ecdsa*",
        "id_ed25519*",
        ".aws/",
        ".ssh/",
        ".gnupg/",
        ".netrc",
        ".pypirc",
        # The trainer's own folder where nobody names another: old checkpoints, which the run must not start from.
        "checkpoints/",
    ]
)

_Specs = tuple[tuple[str, GitIgnoreSpec], ...]
"""Folder (with its trailing slash, empty for the root) and the rules of its file, the deepest folder first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRules:
    """The rules that hold in one folder. Paths are relative to the source folder, with `/`; folders end with it."""

    own: _Specs = ()
    git: _Specs = ()

    def within(self, folder: Path, prefix: str) -> Self:
        """Return the rules that hold in `folder`, whose path is `prefix`.

        Raises:
            ValueError: if a line of its files is no pattern.
        """
        return replace(
            self,
            own=(*_read(folder / IGNORE_FILE, prefix), *self.own),
            git=(*_read(folder / ".gitignore", prefix), *self.git),
        )

    def leaves_out(self, path: str) -> bool:
        """Whether `path` is not sent."""
        own = _verdict(self.own, path)
        if own is not None:
            return own
        return is_noise(path) or bool(_UNASKED.match_file(path)) or bool(_verdict(self.git, path))


def is_noise(path: str) -> bool:
    """Whether nobody needs to be told that `path` is left out."""
    return bool(_NOISE.match_file(path))


def _read(file: Path, prefix: str) -> _Specs:
    if not file.is_file():
        return ()
    try:
        return ((prefix, GitIgnoreSpec.from_lines(file.read_text().splitlines())),)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _verdict(specs: _Specs, path: str) -> bool | None:
    """Return whether the rules leave the path out (True) or re-include it (False), or None if they are silent."""
    for prefix, spec in specs:
        verdict = spec.check_file(path.removeprefix(prefix)).include
        if verdict is not None:
            return verdict
    return None
