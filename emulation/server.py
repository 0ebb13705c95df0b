"""The AWS endpoint on loopback: moto, with the operations of Batch's jobs and SageMaker's answered by our executors.

A WSGI front stands before moto's dispatcher. It answers the operations that concern jobs itself, and lets moto
handle one request of a service at a time, because moto's backends are not safe to call from several threads:
SQS's delete, for one, rebuilds the queue and loses a message that arrives meanwhile. Bodies are read before a
service is entered, so that a client that stalls in the middle of an upload holds nobody up.
"""

import errno
import functools
import io
import json
import re
import socket
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client, run_wsgi_app

from emulation import attribute_values
from emulation.batch.batch_api import ClientException
from emulation.create_only import access_denied, refused_key
from emulation.sagemaker.refusals import SageMakerRefusal
from emulation.sagemaker.training_api import OPERATIONS, TAG_OPERATIONS
from emulation.templates import overlay
from emulation.templates.deployment import Deployment

# moto's CloudFormation loads jsonschema, which loads this package where it is installed, to judge a format that no
# template has: 2.4 of the 4.6 s that it takes to load moto. Python imports no module that is None; it does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

attribute_values.find_at_once()

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

JOB_OPERATIONS: Final = {
    f"/v1/{operation.lower()}": operation
    for operation in ("SubmitJob", "DescribeJobs", "ListJobs", "CancelJob", "TerminateJob", "GetJobQueueSnapshot")
}
"""Path -> operation. See botocore's batch/2016-08-10/service-2.json."""
_REGISTER: Final = "/v1/registerjobdefinition"

_CREDENTIAL: Final = re.compile(r"[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request")
_HOST: Final = "127.0.0.1"


class JobOperations(Protocol):
    """What answers the Batch operations that concern jobs."""

    def handle(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response of `operation` in the API's own shape.

        Raises:
            ClientException: what AWS would refuse with HTTP 400.
        """
        ...


class TrainingOperations(Protocol):
    """What answers SageMaker's operations that concern training jobs."""

    def handle(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response of `operation` in the API's own shape.

        Raises:
            SageMakerRefusal: what AWS would refuse with HTTP 400.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An exception that an operation raised instead of answering: a gap of moto, or a defect of ours."""

    request: str
    """Method, service and path, and the operation where a header names it."""
    error: str
    """The exception in one line."""
    traceback: str


class _RequestHandler(MotoRequestHandler):
    # Without it, Nagle and delayed acknowledgements add 40 ms to every answer.
    disable_nagle_algorithm = True

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing: failures are kept in `Server.failures`."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing: failures are kept in `Server.failures`."""


class _Moto(DomainDispatcherApplication):
    """moto's services. Which one answers for a host never changes, and moto reads its own folder to find out."""

    @functools.cache  # noqa: B019  # there is one, for as long as the process lives
    def get_backend_for_host(self, host: str | None) -> Any:
        """Return the service that answers for a host."""
        return super().get_backend_for_host(host)


_MOTO: Final = _Moto(create_backend_app)
"""It keeps the routes of the services and no state."""


class Server:
    """moto on 127.0.0.1 with our own answers to the Batch job operations.

    moto keeps its state in the process, so a process can have one server at a time; starting it empties moto.

    Raises:
        ValueError: if the port is taken.
        RuntimeError: if this process already runs a server.
    """

    _running: ClassVar[bool] = False

    def __init__(self, *, port: int = 0, account: str = "123456789012", seed: int = 0) -> None:
        """Bind `port` (0: any free one) and serve at once.

        Every request acts in `account`; `seed` decides the names that moto gives.
        """
        if Server._running:
            raise RuntimeError("moto's state is global to a process, which already runs an emulation: stop it first")
        self.account = account
        """The account that every request acts in."""
        self.job_operations: JobOperations | None = None
        """Answers the job operations; until there is one, they are refused."""
        self.training_operations: TrainingOperations | None = None
        """The same for training jobs."""
        self.deployment: Deployment | None = None
        """Completes what moto says of job definitions and queues; names the keys that are written only once."""
        self._registered: dict[str, dict[str, Any]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._failures: list[Failure] = []
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.endpoint_url = f"http://{_HOST}:{self.port}"
        moto_api = Client(_MOTO)
        moto_api.post("/moto-api/reset")
        moto_api.post(f"/moto-api/seed?a={seed}")
        self._server = make_server(
            _HOST, self.port, self._answer, threaded=True, request_handler=_RequestHandler, fd=self._socket.fileno()
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="aws-endpoint", daemon=True
        )
        self._thread.start()
        Server._running = True

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What went wrong inside the emulation since it started. A run that leaves any has proved nothing."""
        return tuple(self._failures)

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._socket.close()
        Server._running = False

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        service = _service(environ)
        body = _read_body(environ)
        try:
            operation = JOB_OPERATIONS.get(environ["PATH_INFO"]) if service == "batch" else None
            if operation is not None:
                return self._answer_job_operation(operation, body, start_response)
            if service == "sagemaker" and (training := _training_operation(environ, body)) is not None:
                return self._answer_training_operation(training, body, start_response)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
            if service == "s3" and self.deployment is not None:
                arn = refused_key(environ, self.deployment.create_only)
                if arn is not None:
                    return _xml_response(start_response, "403 Forbidden", access_denied(arn, self.account))
            if _waits(service, environ, body):
                return _MOTO(environ, start_response)  # type: ignore[no-any-return]
            with self._locks[service]:
                if service == "batch" and self.deployment is not None and environ["PATH_INFO"] in overlay.OPERATIONS:
                    return self._answer_completed(environ, self.deployment, start_response)
                if service == "batch" and environ["PATH_INFO"] == _REGISTER:
                    return self._answer_registration(environ, json.loads(body), start_response)
                return _MOTO(environ, start_response)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001  # the outermost frame of a request: moto raises what it cannot do
            return self._answer_failure(service, environ, error, start_response)

    def _answer_job_operation(self, operation: str, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        if self.job_operations is None:
            return _client_exception(start_response, "the emulation is still starting: no job can be submitted yet")
        try:
            response = self.job_operations.handle(operation, json.loads(body or b"{}"))
        except ClientException as error:
            return _client_exception(start_response, str(error))
        return _json_response(start_response, "200 OK", response)

    def _answer_training_operation(self, operation: str, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        if self.training_operations is None:
            told = {"__type": "InternalFailure", "message": "the emulation is still starting"}
            return _json_response(start_response, "500 Internal Server Error", told)
        try:
            response = self.training_operations.handle(operation, json.loads(body or b"{}"))
        except SageMakerRefusal as error:
            told = {"__type": error.code, "message": str(error)}
            return _json_response(start_response, "400 Bad Request", told)
        return _json_response(start_response, "200 OK", response)

    def _answer_completed(
        self, environ: Environ, deployment: Deployment, start_response: StartResponse
    ) -> Iterable[bytes]:
        content, status, headers = run_wsgi_app(_MOTO, environ, buffered=True)
        if not status.startswith("200"):
            start_response(status, list(headers))
            return content
        answer = json.loads(b"".join(content))
        completed = overlay.complete(environ["PATH_INFO"], answer, deployment, self._registered)
        return _json_response(start_response, status, completed)

    def _answer_registration(
        self, environ: Environ, request: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        content, status, headers = run_wsgi_app(_MOTO, environ, buffered=True)
        answer = b"".join(content)
        if status.startswith("200"):
            self._registered[json.loads(answer)["jobDefinitionArn"]] = overlay.dropped(request)
        start_response(status, list(headers))
        return [answer]

    def _answer_failure(
        self, service: str, environ: Environ, error: Exception, start_response: StartResponse
    ) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        message = f"{type(error).__name__}: {error}"
        self._failures.append(
            Failure(
                request=f"{environ['REQUEST_METHOD']} {service} {environ['PATH_INFO']} {target}".strip(),
                error=message,
                traceback="".join(traceback.format_exception(error)),
            )
        )
        return _json_response(
            start_response,
            "500 Internal Server Error",
            {"__type": "InternalFailure", "message": message},
            [("x-amzn-ErrorType", "InternalFailure")],
        )


def _listen(port: int) -> socket.socket:
    # werkzeug's own bind ends the process when the port is taken; ours says what to do.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OverflowError as error:
        listener.close()
        raise ValueError(f"port must be 0 (any free one) to 65535, got {port}") from error
    except OSError as error:
        listener.close()
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "needs privileges"
        raise ValueError(f"port {port} {why} on {_HOST}: give another with --port, or 0 for any free one") from error
    listener.listen(128)
    return listener


def _service(environ: Environ) -> str:
    """Name the service in whose scope the request is signed; S3's presigned links carry it in the query."""
    signed = environ.get("HTTP_AUTHORIZATION") or "".join(parse_qs(environ["QUERY_STRING"]).get("X-Amz-Credential", ()))
    scope = _CREDENTIAL.search(signed)
    return scope[1].lower() if scope else "s3"


def _training_operation(environ: Environ, body: bytes) -> str | None:
    """Return which operation on training jobs is asked for, or None for what moto answers."""
    operation = str(environ.get("HTTP_X_AMZ_TARGET", "")).partition(".")[2]
    if operation in OPERATIONS:
        return operation
    is_tagged = operation in TAG_OPERATIONS and ":training-job/" in json.loads(body).get("ResourceArn", "")
    return operation if is_tagged else None


def _read_body(environ: Environ) -> bytes:
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):  # chunked
        return bytes(stream.read())
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = bytes(stream.read(length))
    if len(body) < length:
        # The client died in the middle: like S3, store nothing.
        raise ConnectionAbortedError(f"got {len(body)} of {length} bytes")
    return body


def _waits(service: str, environ: Environ, body: bytes) -> bool:
    """Tell whether the request may take seconds by design: a long poll must not keep senders out."""
    if service != "sqs" or not environ.get("HTTP_X_AMZ_TARGET", "").endswith("ReceiveMessage"):
        return False
    return bool(json.loads(body).get("WaitTimeSeconds"))


def _client_exception(start_response: StartResponse, message: str) -> Iterable[bytes]:
    # AWS's rest-json error: the code in a header, the message in the body.
    return _json_response(
        start_response,
        "400 Bad Request",
        {"message": message, "code": "ClientException"},
        [("x-amzn-ErrorType", "ClientException")],
    )


def _xml_response(start_response: StartResponse, status: str, body: bytes) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _json_response(
    start_response: StartResponse, status: str, payload: dict[str, Any], headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    body = json.dumps(payload).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]
