"""The file by which `spotkeeper --local` finds a running emulation (see `spotkeeper.contract.local_endpoint`)."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spotkeeper.contract.local_endpoint import local_endpoint_file

_CONNECT_SECONDS = 1.0


def refuse_second_start(environ: Mapping[str, str] = os.environ) -> None:
    """Return if no emulation is up.

    Raises:
        ValueError: if one is; the message says where, and how to stop it.
    """
    running = _running(local_endpoint_file(environ))
    if running is not None:
        raise ValueError(
            f"an emulation of {running['environment']} is up already at {running['endpoint_url']} (process "
            f"{running['pid']}): use it, or stop it with Ctrl-C there or `kill {running['pid']}`"
        )


@contextmanager
def announce(
    *, endpoint_url: str, region: str, environment: str, environ: Mapping[str, str] = os.environ
) -> Iterator[Path]:
    """Write the file for as long as the context lasts; it replaces one that a killed emulation left behind."""
    file = local_endpoint_file(environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = {"endpoint_url": endpoint_url, "region": region, "environment": environment, "pid": os.getpid()}
    # Readers see the old file or the whole new one.
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(mine) + "\n")
    unfinished.replace(file)
    try:
        yield file
    finally:
        if _read(file) == mine:
            file.unlink()


def _running(file: Path) -> dict[str, Any] | None:
    """Return what the file says if it is true: a process with that id lives, and its port answers."""
    said = _read(file)
    if not {"endpoint_url", "environment", "pid"} <= set(said):
        return None
    try:
        os.kill(int(said["pid"]), 0)
        address = urlsplit(said["endpoint_url"])
        socket.create_connection((address.hostname or "", address.port or 0), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return None
    return said


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
