"""Temporary folders that go with the process that made them, at the latest when the next one starts."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_OURS: Final = re.compile(r"spotkeeper-(?:emulation|demo)-(?P<pid>\d+)-.+")


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Make a folder for as long as the context lasts, and remove those of processes that were killed.

    Args:
        purpose: `emulation` or `demo`; part of the folder's name, as is this process's id.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    prefix = f"spotkeeper-{purpose}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_abandoned(parent: Path) -> None:
    """Remove this user's folders in `parent` whose names tell the id of a process that is gone."""
    for folder in parent.iterdir():
        named = _OURS.fullmatch(folder.name)
        if named and folder.lstat().st_uid == os.getuid() and not _is_alive(int(named["pid"])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
