"""An S3 endpoint that verifies the checksums of what it is sent, and keeps nothing.

    python -m benchmarks.checkpointing.s3_sink [CERTIFICATE_AND_KEY.pem]

Prints its port once it listens on 127.0.0.1; with a certificate it speaks TLS. A real server on two cores would measure
itself, so this one does no more than has to be done: every body is received into one buffer and its CRC64NVME compared
with what the client says, in a header or behind the body; a multipart upload is completed only if the checksum over the
whole, combined from those of the parts, is the one that the client sends. A body without a checksum is refused.
"""

import base64
import socket
import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
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


class Stream:
    """What comes in on a connection, through one buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0

    def line(self) -> bytes:
        """Return the next line, without its end."""
        found = b""
        while True:
            if self._begin == self._end:
                self._fill()
            at = self._buffer.find(b"\n", self._begin, self._end)
            end = self._end if at < 0 else at + 1
            found += self._view[self._begin : end]
            self._begin = end
            if at >= 0:
                return found.rstrip(b"\r\n")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes, each piece valid until the next is taken."""
        while size:
            if self._begin == self._end:
                self._fill()
            end = min(self._end, self._begin + size)
            piece = self._view[self._begin : end]
            self._begin, size = end, size - len(piece)
            yield piece

    def chunked(self) -> Iterator[memoryview]:
        """Yield a body of HTTP's chunked transfer encoding."""
        while size := int(self.line(), 16):
            yield from self.pieces(size)
            self.line()
        self.line()

    def _fill(self) -> None:
        count = self._connection.recv_into(self._view)
        if not count:
            raise ClosedError
        self._begin, self._end = 0, count


class AwsChunks:
    """The content inside of `aws-chunked`: lengths in lines of their own, and the checksum behind the last."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self.checksum: str | None = None

    def content(self) -> Iterator[memoryview]:
        """Yield the content; after that `checksum` is known."""
        line, remaining = b"", 0
        is_trailer = False
        for each in self._pieces:
            piece = each
            while len(piece):
                if remaining:
                    yield piece[:remaining]
                    remaining, piece = max(0, remaining - len(piece)), piece[remaining:]
                    continue
                head, end, _ = bytes(piece[:200]).partition(b"\n")
                piece = piece[len(head) + len(end) :]
                line += head.rstrip(b"\r")
                if not end or not line:
                    continue
                if is_trailer:
                    self.checksum = line.decode().partition(":")[2].strip()
                else:
                    remaining = int(line, 16)
                    is_trailer = not remaining
                line = b""


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection until the client closes it."""
    with connection, suppress(ClosedError, ConnectionError, ssl.SSLError):
        stream = Stream(connection)
        while True:
            _answer_one(connection, stream)


def _answer_one(connection: socket.socket, stream: Stream) -> None:
    method, target, _ = stream.line().decode("latin-1").split(" ")
    headers = {}
    while line := stream.line():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect") == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    said, counted, size = _receive(stream, headers)
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
    if method == "POST":
        body = _create(target) if "uploads" in query else _complete(query["uploadId"], headers)
    else:
        body = b"" if said == _text(counted) else MISMATCH
        if "uploadId" in query:
            _parts[query["uploadId"]][int(query["partNumber"])] = (counted, size)
    status = b"400 Bad Request" if body is MISMATCH else b"200 OK"
    connection.sendall(b'HTTP/1.1 %s\r\nETag: "none"\r\nContent-Length: %d\r\n\r\n%s' % (status, len(body), body))


def _receive(stream: Stream, headers: dict[str, str]) -> tuple[str | None, int, int]:
    """Return the body's checksum as it was told and as it is, and its length."""
    if headers.get("transfer-encoding") == "chunked":
        framed = AwsChunks(stream.chunked())
        checksum, size = _count(framed.content())
        return framed.checksum, checksum, size
    checksum, size = _count(stream.pieces(int(headers.get("content-length", 0))))
    return headers.get(CHECKSUM), checksum, size


def _count(pieces: Iterator[memoryview]) -> tuple[int, int]:
    checksum = size = 0
    for piece in pieces:
        checksum = checksums.crc64nvme(piece, checksum)
        size += len(piece)
    return checksum, size


def _create(target: str) -> bytes:
    return CREATED % urlsplit(target).path.encode().hex().encode()


def _complete(upload: str, headers: dict[str, str]) -> bytes:
    whole = 0
    for _, (checksum, size) in sorted(_parts.pop(upload).items()):
        whole = checksums.combine_crc64nvme(whole, checksum, size)
    return COMPLETED if headers.get(CHECKSUM) == _text(whole) else MISMATCH


def _text(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(8, "big")).decode()


def _connected(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    serve(connection if context is None else context.wrap_socket(connection, server_side=True))


def main() -> None:
    """Serve until killed, each connection in a thread of its own."""
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_connected, args=(connection, context), daemon=True).start()


if __name__ == "__main__":
    main()
