"""A proxy before an S3 that does to requests what networks, a busy S3 and a wrong clock do.

Requests are forwarded as they are, signature included. The names are those of S3's operations.
"""

import http.client
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

CHECKSUM = "x-amz-checksum-crc64nvme"
NOT_FORWARDED = {"expect", "connection", "transfer-encoding"}


class Fault(Enum):
    """What becomes of a request."""

    SLOW_DOWN = auto()
    """S3 throttles it."""
    INTERNAL_ERROR = auto()
    CUT_REQUEST = auto()
    """The connection breaks before all of the body has come."""
    CUT_ANSWER = auto()
    """S3 carries it out, and the connection breaks in the middle of the answer."""
    LOST_ANSWER = auto()
    """S3 carries it out, and the connection breaks before the answer."""
    DAMAGED_REQUEST = auto()
    """A byte of the body changes on the way."""
    DAMAGED_ANSWER = auto()
    OTHER_CHECKSUM = auto()
    """S3 names another checksum than that of what it was sent."""
    SKEWED_CLOCK = auto()
    """S3's clock is an hour ahead of the client's, so it believes no signature."""
    DENIED = auto()
    KILLED_BEFORE = auto()
    """The client is killed with the request sent, before S3 has it."""
    KILLED_AFTER = auto()
    """The client is killed once S3 has carried the request out, before it has the answer."""


class FaultyS3(ThreadingHTTPServer):
    """The proxy. What it is told about holds from the next request on."""

    daemon_threads = True

    def __init__(self, backend: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = backend.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[str] = []
        """Every operation, in the order of their coming."""
        self._planned: list[tuple[str, int, Fault]] = []
        self._lock = threading.Lock()

    def plan(self, operation: str, fault: Fault, *, first: int = 1, times: int = 1) -> None:
        """Do this to the `first` request of the operation ("" is any) from now on, and to `times` in all."""
        self._planned += [(operation, number, fault) for number in range(first, first + times)]

    def fault_for(self, operation: str) -> Fault | None:
        """Count the request, and return what is to be done to it."""
        with self._lock:
            self.seen.append(operation)
            waiting = [(name, number - (name in {operation, ""}), fault) for name, number, fault in self._planned]
            self._planned = [each for each in waiting if each[1] > 0]
            return next((fault for _, number, fault in waiting if number == 0), None)


@contextmanager
def serve_faults(backend: str) -> Iterator[FaultyS3]:
    with FaultyS3(backend) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def operation(method: str, target: str) -> str:
    """Return S3's name of the request."""
    address = urlsplit(target)
    query = parse_qs(address.query, keep_blank_values=True)
    is_object = address.path.strip("/").count("/") > 0
    match method:
        case "POST":
            return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
        case "PUT":
            return "UploadPart" if "uploadId" in query else "PutObject"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        case "HEAD":
            return "HeadObject"
        case _:
            return "GetObject" if is_object else "ListObjects"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def answer(self) -> None:
        fault = self.server.fault_for(operation(self.command, self.path))
        length = int(self.headers.get("Content-Length", 0))
        if fault is Fault.CUT_REQUEST:
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        match fault:
            case Fault.SLOW_DOWN:
                self.refuse(503, "SlowDown")
            case Fault.INTERNAL_ERROR:
                self.refuse(500, "InternalError")
            case Fault.DENIED:
                self.refuse(403, "AccessDenied")
            case Fault.SKEWED_CLOCK:
                self.refuse(403, "RequestTimeTooSkewed", seconds_ahead=3600)
            case Fault.KILLED_BEFORE:
                self.kill_client()
            case _:
                self.forward(body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815  (the library's names)

    def forward(self, body: bytes, fault: Fault | None) -> None:
        if fault is Fault.DAMAGED_REQUEST:
            body = _damaged(body)
        status, headers, content = self.ask_backend(body)
        if fault is Fault.KILLED_AFTER:
            self.kill_client()
            return
        if fault is Fault.LOST_ANSWER:
            self.close_connection = True
            return
        if fault is Fault.DAMAGED_ANSWER:
            content = _damaged(content)
        if fault is Fault.OTHER_CHECKSUM:
            headers = {name: "AAAAAAAAAAA=" if name.lower() == CHECKSUM else value for name, value in headers.items()}
        self.send_response_only(status)
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if fault is Fault.CUT_ANSWER:
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)

    def ask_backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        backend = http.client.HTTPConnection(self.server.backend, timeout=60)
        try:
            backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in NOT_FORWARDED:
                    backend.putheader(name, value)
            backend.endheaders(body)
            reply = backend.getresponse()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in NOT_FORWARDED}
            return reply.status, headers, reply.read()
        finally:
            backend.close()

    def refuse(self, status: int, code: str, seconds_ahead: float = 0.0) -> None:
        body = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() + seconds_ahead, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def kill_client(self) -> None:
        """It has named its process in the User-Agent, where AWS_SDK_UA_APP_ID stands."""
        named = re.search(r"app/(\d+)", self.headers["User-Agent"])
        assert named is not None, self.headers["User-Agent"]
        os.kill(int(named[1]), signal.SIGKILL)
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        pass


def _damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
