"""An S3 endpoint that verifies the checksums of what it is sent, and keeps nothing.

    python -m benchmarks.checkpointing.s3_sink

Prints its port once it listens on 127.0.0.1. A real server on two cores would measure itself, so this one does no more
than has to be done: every body is received into one buffer and its CRC64NVME compared with what the client says; a
multipart upload is completed only if the checksum over the whole, combined from those of the parts, is the one that the
client sends. A body without that checksum is refused.
"""

import base64
import socket
import sys
import threading
from collections import defaultdict
from typing import Final
from urllib.parse import parse_qs, urlsplit

from awscrt import checksums

BUFFER_BYTES: Final = 1024 * 1024
CHECKSUM: Final = "x-amz-checksum-crc64nvme"
CREATED: Final = b"<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>"
COMPLETED: Final = b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
MISMATCH: Final = b"<Error><Code>BadDigest</Code><Message>another checksum than that of what arrived</Message></Error>"

_parts: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
"""Of each upload under way: checksum and length of each part."""


class ClosedError(Exception):
    """The client has hung up."""


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection until the client closes it."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                _answer_one(connection, buffer)
        except (ClosedError, ConnectionError):
            return


def _answer_one(connection: socket.socket, buffer: memoryview) -> None:
    head, rest = _read_head(connection)
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("expect") == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    checksum, size = _receive(connection, buffer, rest, int(headers.get("content-length", 0)))
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
    if method == "POST":
        body = _create(target) if "uploads" in query else _complete(query["uploadId"], headers)
    else:
        body = MISMATCH if headers.get(CHECKSUM) != _text(checksum) else b""
        if "uploadId" in query:
            _parts[query["uploadId"]][int(query["partNumber"])] = (checksum, size)
    status = b"400 Bad Request" if body is MISMATCH else b"200 OK"
    connection.sendall(b'HTTP/1.1 %s\r\nETag: "none"\r\nContent-Length: %d\r\n\r\n%s' % (status, len(body), body))


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            raise ClosedError
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _receive(connection: socket.socket, buffer: memoryview, first: bytes, size: int) -> tuple[int, int]:
    """Return checksum and length of the body, of which `first` has come with the head."""
    checksum = checksums.crc64nvme(first)
    remaining = size - len(first)
    while remaining:
        count = connection.recv_into(buffer, min(remaining, BUFFER_BYTES))
        if not count:
            raise ClosedError
        checksum = checksums.crc64nvme(buffer[:count], checksum)
        remaining -= count
    return checksum, size


def _create(target: str) -> bytes:
    return CREATED % urlsplit(target).path.encode().hex().encode()


def _complete(upload: str, headers: dict[str, str]) -> bytes:
    parts = _parts.pop(upload)
    whole = 0
    for _, (checksum, size) in sorted(parts.items()):
        whole = checksums.combine_crc64nvme(whole, checksum, size)
    return COMPLETED if headers.get(CHECKSUM) == _text(whole) else MISMATCH


def _text(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(8, "big")).decode()


def main() -> None:
    """Serve until killed, each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        sys.stdout.close()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
