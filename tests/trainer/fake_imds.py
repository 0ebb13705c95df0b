"""An instance metadata service on 127.0.0.1 with the faults that a real one, or its absence, can show."""

import base64
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_PATH = "/latest/api/token"
HTML_404 = '<?xml version="1.0"?><html><body><h1>404 - Not Found</h1></body></html>'


class FakeImds:
    """What the service says; a test changes it while clients ask."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        """By path below /latest/meta-data/; absent means 404."""
        self.token_status = 200
        self.granted_ttl_seconds: float = 21600
        self.answer_after_seconds = 0.0
        self.requests: list[tuple[str, str]] = []
        self._tokens: dict[str, float] = {}
        self.endpoint = ""

    def forget_tokens(self) -> None:
        self._tokens.clear()

    def has_live_token(self) -> bool:
        return any(expires_at > time.monotonic() for expires_at in self._tokens.values())

    def new_token(self) -> str:
        token = base64.b64encode(secrets.token_bytes(32)).decode()
        self._tokens[token] = time.monotonic() + self.granted_ttl_seconds
        return token

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        self.requests.append((method, path))
        time.sleep(self.answer_after_seconds)
        if path == TOKEN_PATH:
            ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if method != "PUT":
                return 200, ""
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
                return 400, ""
            return self.token_status, self.new_token() if self.token_status == 200 else ""
        if self._tokens.get(headers.get("x-aws-ec2-metadata-token", ""), 0) <= time.monotonic():
            return 401, ""
        document = self.documents.get(path.removeprefix("/latest/meta-data/"))
        return (404, HTML_404) if document is None else (200, document)


@contextmanager
def serve_imds() -> Iterator[FakeImds]:
    """Serve a fake until the block ends."""
    imds = FakeImds()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply("GET")

        def do_PUT(self) -> None:
            self._reply("PUT")

        def log_message(self, *_arguments: object) -> None:
            pass

        def _reply(self, method: str) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = imds.answer(method, self.path, headers)
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())
            except OSError:
                pass  # a client that ran out of patience

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    imds.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield imds
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
