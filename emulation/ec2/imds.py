"""The instance metadata service of one emulated instance: IMDSv2, with EC2's spot paths.

Behaves as EC2 does where aws/amazon-ec2-metadata-mock differs: every read needs a token, JSON is compact, and the
time of an interruption, once told, stays.
docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

import base64
import json
import secrets
import socket
import threading
import time
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, cast

from emulation.ec2.market import Instance

TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105  a path
LONGEST_TTL_SECONDS: Final = 21600
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"  # noqa: S105  a header's name
_CLIENT_SECONDS: Final = 5.0


class InstanceMetadata:
    """An IMDSv2 server on 127.0.0.1 for one instance, from construction until `close`."""

    def __init__(self, instance: Instance, *, account: str, region: str) -> None:
        self._documents = {
            "/latest/meta-data/instance-id": instance.id,
            "/latest/meta-data/instance-type": instance.type,
            "/latest/meta-data/instance-life-cycle": instance.market,
            "/latest/meta-data/placement/availability-zone": instance.zone,
            "/latest/meta-data/placement/region": region,
            "/latest/dynamic/instance-identity/document": json.dumps(
                {
                    "accountId": account,
                    "availabilityZone": instance.zone,
                    "instanceId": instance.id,
                    "instanceType": instance.type,
                    "pendingTime": _iso(instance.launched_at),
                    "region": region,
                },
                indent=2,
            ),
        }
        self._tokens: dict[str, float] = {}
        self._closing = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.metadata = self
        self._thread = threading.Thread(target=self._serve, name=f"imds-{instance.id}", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """What `AWS_EC2_METADATA_SERVICE_ENDPOINT` is to be on this instance."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def recommend_rebalance(self, at: datetime) -> None:
        """Show a rebalance recommendation from now on."""
        self._documents["/latest/meta-data/events/recommendations/rebalance"] = _json({"noticeTime": _iso(at)})

    def give_notice(self, deadline: datetime) -> None:
        """Show from now on that the instance is terminated at `deadline`."""
        self._documents["/latest/meta-data/spot/instance-action"] = _json(
            {"action": "terminate", "time": _iso(deadline)}
        )
        self._documents["/latest/meta-data/spot/termination-time"] = _iso(deadline)

    def close(self) -> None:
        """Stop serving. Harmless when repeated."""
        if self._closing:
            return
        self._closing = True
        with socket.create_connection(("127.0.0.1", self._server.server_address[1]), _CLIENT_SECONDS):
            self._thread.join()  # the connection woke it from its wait
        self._server.server_close()

    def issue_token(self, ttl_seconds: int) -> str:
        """Return a token that is valid for `ttl_seconds`."""
        token = base64.b64encode(secrets.token_bytes(32)).decode()
        self._tokens[token] = time.monotonic() + ttl_seconds
        return token

    def is_valid(self, token: str | None) -> bool:
        """Say whether a token was issued and has not expired."""
        return token is not None and time.monotonic() < self._tokens.get(token, 0.0)

    def document(self, path: str) -> str | None:
        """Return what stands at a path, or None."""
        return self._documents.get(path)

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()  # waits without polling, unlike serve_forever


class Silence:
    """An address at which nothing ever answers: what a container finds where the answer's hop limit ends before it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1)  # nobody accepts

    @property
    def endpoint(self) -> str:
        """A URL whose reader waits in vain."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Free the port. Harmless when repeated."""
        self._socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    metadata: InstanceMetadata


class _Handler(BaseHTTPRequestHandler):
    server_version = "EC2ws"
    sys_version = ""
    timeout = _CLIENT_SECONDS

    @property
    def _metadata(self) -> InstanceMetadata:
        return cast("_Server", self.server).metadata

    def do_PUT(self) -> None:
        ttl = self.headers.get(_TTL_HEADER, "")
        if self._path != TOKEN_PATH:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif self.headers.get("X-Forwarded-For"):
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= LONGEST_TTL_SECONDS):
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            self._answer(self._metadata.issue_token(int(ttl)), headers={_TTL_HEADER: ttl})

    def do_GET(self) -> None:
        if self._path == TOKEN_PATH:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not self._metadata.is_valid(self.headers.get(_TOKEN_HEADER)):
            self._refuse(HTTPStatus.UNAUTHORIZED)
        elif (document := self._metadata.document(self._path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._answer(document)

    do_HEAD = do_GET  # noqa: N815  the base class calls it by this name

    def log_message(self, *_: object) -> None:
        """Say nothing: a poll a second is no news."""

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _answer(self, text: str, *, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json" if text.startswith("{") else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _json(document: dict[str, str]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
