"""The file by which `spotkeeper --local` finds a running emulation (see `spotkeeper.contract.local_endpoint`)."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spotkeeper.contract.local_endpoint import local_endpoint_file


@contextmanager
def only_one(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Be the only emulation of this user's state folder that is up or starting, for as long as the context lasts.

    The lock goes with the process, however that ends; its file stays, as removing it would let two in.

    Raises:
        ValueError: if there is one already; the message says where, and how to stop it.
    """
    file = local_endpoint_file(environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name("local.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ValueError(_who_is_up(_read(file), pid=lock.read().strip())) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


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


def _who_is_up(said: Mapping[str, Any], *, pid: str) -> str:
    if str(said.get("pid")) == pid and {"environment", "endpoint_url"} <= set(said):
        return (
            f"an emulation of {said['environment']} is up already at {said['endpoint_url']} (process {pid}): "
            f"use it, or stop it with Ctrl-C there or `kill {pid}`"
        )
    return f"an emulation is starting already (process {pid}): wait for it, or stop it with `kill {pid}`"


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
