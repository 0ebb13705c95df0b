"""AWS Lambda's runtime API, served on loopback to one function process.

docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html; the process runs AWS's own client, `awslambdaric`.
"""

import json
import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_PREFIX: Final = "/2018-06-01/runtime/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """An event on its way to the function."""

    request_id: str
    event: Any
    deadline_ms: int
    """Milliseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an invocation."""

    request_id: str
    """Empty if the function failed before it took one."""
    response: Any = None
    error: dict[str, Any] | None = None
    """`errorType`, `errorMessage` and `stackTrace`, as AWS shows them; None on success."""


class RuntimeApi:
    """Hands invocations to one function process and takes what it answers.

    `outcomes` also takes what others know about the process, such as its end.
    """

    def __init__(self, function_arn: str) -> None:
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.ready = threading.Event()
        """Set once the function has loaded and asks for work."""
        self._function_arn = function_arn
        self._invocations: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        api = self

        class Handler(_Handler):
            runtime_api = api

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="runtime-api", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port`, for AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_port}"

    def submit(self, invocation: Invocation) -> None:
        """Let the function have an invocation."""
        self._invocations.put(invocation)

    def close(self) -> None:
        """Stop serving; the process must be gone."""
        self._invocations.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_invocation(self) -> tuple[Invocation, str] | None:
        """Wait for an invocation; return it with the function's ARN, or None when closed."""
        self.ready.set()
        invocation = self._invocations.get()
        return None if invocation is None else (invocation, self._function_arn)


class _Handler(BaseHTTPRequestHandler):
    runtime_api: RuntimeApi
    protocol_version = "HTTP/1.1"
    # Without it, Nagle and delayed acknowledgements add 40 ms to every call.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        taken = self.runtime_api.next_invocation()
        if taken is None:
            self.close_connection = True
            return
        invocation, function_arn = taken
        self._answer(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": function_arn,
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = json.loads(body or b"null")
        match self.path.removeprefix(_PREFIX).split("/"):
            case ["init", "error"]:
                self.runtime_api.outcomes.put(Outcome(request_id="", error=content))
            case ["invocation", request_id, "response"]:
                self.runtime_api.outcomes.put(Outcome(request_id=request_id, response=content))
            case ["invocation", request_id, "error"]:
                self.runtime_api.outcomes.put(Outcome(request_id=request_id, error=content))
            case _:
                self._answer(404, {"errorMessage": f"no such path: {self.path}", "errorType": "NotFound"}, {})
                return
        self._answer(202, {"status": "OK"}, {})

    def _answer(self, status: int, content: Any, headers: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
