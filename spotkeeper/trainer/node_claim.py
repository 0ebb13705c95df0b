"""One claim for all nodes: node 0 claims the run and tells the others what came of it, before any program starts.

The nodes meet at the port where their programs will: those need one another anyway, so nobody starts before all are
there. What is told is no secret: an epoch, and settings of the run; or that the run is complete already, which ends all
of them.
"""

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

PATIENCE_SECONDS: Final = 900.0
"""SageMaker starts the nodes together, but each pulls the image by itself."""
PAUSE_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 30.0


class NodeMissingError(Exception):
    """Another node of the job was not there in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimResult:
    """What came of node 0's claim."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """What the attempt was given, as environment variables."""
    is_complete: bool = False
    """The run is complete already: nobody was given anything, and there is nothing left to do."""
    completed_step: int | None = None
    """Last step of a complete run, of a program that uses the library."""


def tell_nodes(
    result: ClaimResult, *, host: str, port: int, others: int, patience_seconds: float = PATIENCE_SECONDS
) -> None:
    """Tell so many other nodes, once each.

    Raises:
        NodeMissingError: if one has not asked in time.
    """
    give_up_at = time.monotonic() + patience_seconds
    told: set[str] = set()
    body = json.dumps(asdict(result)).encode()
    with socket.create_server((host, port)) as server:
        while len(told) < others:
            server.settimeout(max(0.001, give_up_at - time.monotonic()))
            try:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(_ANSWER_SECONDS)
                    name = connection.makefile("r").readline().strip()
                    connection.sendall(body)
                    connection.shutdown(socket.SHUT_WR)
                    if name and connection.recv(1) == b"":  # it has read everything, and said so by closing
                        told.add(name)
            except TimeoutError as error:
                if time.monotonic() >= give_up_at:
                    raise NodeMissingError(
                        f"{others - len(told)} of {others} other nodes did not come within {patience_seconds:g} s"
                    ) from error
            except OSError:
                continue  # it will come again


def ask_node(*, name: str, host: str, port: int, patience_seconds: float = PATIENCE_SECONDS) -> ClaimResult:
    """Return what came of node 0's claim, once it has.

    Raises:
        NodeMissingError: if it does not tell in time.
    """
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            with socket.create_connection((host, port), timeout=_ANSWER_SECONDS) as connection:
                connection.sendall(f"{name}\n".encode())
                with connection.makefile("r") as file:
                    return ClaimResult(**json.load(file))
        except (OSError, ValueError, TypeError) as error:
            if time.monotonic() + PAUSE_SECONDS > give_up_at:
                raise NodeMissingError(
                    f"node 0 ({host}:{port}) did not tell its claim within {patience_seconds:g} s: {error}"
                ) from error
        time.sleep(PAUSE_SECONDS)
