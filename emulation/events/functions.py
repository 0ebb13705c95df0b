"""Lambda functions: the published archives under AWS's own runtime client, one process a function.

A function can import what Lambda would give it: its own archive, the runtime's boto3 and the layer with Powertools.
Nothing else of this machine's environment is on its path, so that a module missing from the archive is missing here.
Not as in Lambda: the interpreter is this one, an invocation waits for the one before, and memory is not limited.
"""

import functools
import importlib.metadata
import io
import re
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from emulation.clock import Clock
from emulation.events.runtime_api import Invocation
from emulation.events.sandbox import TIMED_OUT, Sandbox
from emulation.templates.deployment import Function

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROVIDED: Final = ("boto3", "awslambdaric", "aws-lambda-powertools")
"""Distributions that Lambda's runtime and the Powertools layer bring, each with what it requires."""

_LOG_LINES: Final = 1000


class FunctionError(Exception):
    """An invocation failed: the function raised or timed out, or its process ended.

    `error` has `errorType`, `errorMessage` and perhaps `stackTrace`, as AWS shows them.
    """

    def __init__(self, function: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{function}: {error.get('errorType', 'Error')}: {error.get('errorMessage', '')}")
        self.error = error


class FunctionHost:
    """One function. Its process starts with the first invocation, and again after one that ended it.

    Args:
        function: What to run.
        start: Starts a process that hands its output, line by line, to the callable that it is given.
        clock: Tells the time of deadlines.
        log_file: Where the function's output goes.
    """

    def __init__(
        self, function: Function, *, start: Callable[[Callable[[str], None]], Sandbox], clock: Clock, log_file: Path
    ) -> None:
        self.function = function
        self._start = start
        self._clock = clock
        self._log_file = log_file
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._one_at_a_time = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._is_closed = False
        self._num_invocations = 0

    @property
    def log_lines(self) -> tuple[str, ...]:
        """The last 1,000 lines that the function wrote; the log file has all of them."""
        return tuple(self._lines)

    def invoke(self, event: Any) -> Any:
        """Run the function and return its response.

        Raises:
            FunctionError: if it raises, does not end within its time-out, or its process ends.
        """
        with self._one_at_a_time:
            sandbox = self._ready_sandbox()
            self._num_invocations += 1
            timeout_seconds = self.function.timeout_seconds
            invocation = Invocation(
                request_id=f"00000000-0000-4000-8000-{self._num_invocations:012d}",
                event=event,
                deadline_ms=self._clock.now_ms() + timeout_seconds * 1000,
            )
            outcome = sandbox.run(invocation, timeout_seconds)
            if outcome.error is None:
                return outcome.response
            if sandbox.has_ended or outcome.error["errorType"] == TIMED_OUT:
                self._discard()
            raise FunctionError(self.function.logical_id, outcome.error)

    def close(self) -> None:
        """End the process. An invocation that runs fails, and so do those that wait."""
        self._is_closed = True
        sandbox = self._sandbox
        if sandbox is not None:
            sandbox.kill()
        with self._one_at_a_time:
            self._discard()

    def _ready_sandbox(self) -> Sandbox:
        if self._is_closed:
            raise FunctionError(self.function.logical_id, {"errorType": "Closed", "errorMessage": "it was shut down"})
        if self._sandbox is not None and self._sandbox.has_ended:
            self._discard()
        if self._sandbox is None:
            self._sandbox = self._start(self._keep_line)
        failure = self._sandbox.load()
        if failure is not None and failure.error is not None:
            self._discard()
            raise FunctionError(self.function.logical_id, failure.error)
        return self._sandbox

    def _discard(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.close()

    def _keep_line(self, line: str) -> None:
        self._lines.append(line)
        with self._log_file.open("a") as log:
            log.write(line + "\n")


def host_functions(
    functions: Iterable[Function],
    *,
    s3: "S3Client",
    environment: Mapping[str, str],
    work_dir: Path,
    emulation_id: str,
    clock: Clock,
) -> dict[str, FunctionHost]:
    """Unpack each function's published archive and return hosts by function name.

    Args:
        functions: What to host.
        s3: Where the archives are.
        environment: Variables that Lambda sets over the function's own: endpoint, region, credentials.
        work_dir: Takes `code/`, `libraries/` and `logs/<logical id>.log`.
        emulation_id: First part of the processes' marks.
        clock: Tells the time of deadlines.
    """
    libraries = work_dir / "libraries"
    link_provided_libraries(libraries)
    (work_dir / "logs").mkdir(parents=True, exist_ok=True)
    unpacked: dict[tuple[str, str], Path] = {}
    hosts = {}
    for function in functions:
        archive = (function.code_bucket, function.code_key)
        if archive not in unpacked:
            unpacked[archive] = work_dir / "code" / str(len(unpacked))
            content = s3.get_object(Bucket=function.code_bucket, Key=function.code_key)["Body"].read()
            zipfile.ZipFile(io.BytesIO(content)).extractall(unpacked[archive])
        hosts[function.name] = _host(
            function,
            code=unpacked[archive],
            libraries=libraries,
            environment=environment,
            mark=f"{emulation_id}/function-{function.logical_id}",
            log_file=work_dir / "logs" / f"{function.logical_id}.log",
            clock=clock,
        )
    return hosts


def _host(
    function: Function,
    *,
    code: Path,
    libraries: Path,
    environment: Mapping[str, str],
    mark: str,
    log_file: Path,
    clock: Clock,
) -> FunctionHost:
    def start(on_line: Callable[[str], None]) -> Sandbox:
        return Sandbox(function, code=code, libraries=libraries, environment=environment, mark=mark, on_line=on_line)

    return FunctionHost(function, start=start, clock=clock, log_file=log_file)


def link_provided_libraries(folder: Path) -> None:
    """Fill a folder with links to what Lambda provides, and to nothing else that is installed here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, installed in _provided().items():
        (folder / name).symlink_to(installed)


@functools.cache
def _provided() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for distribution in _with_requirements(PROVIDED):
        names = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found |= {name: Path(str(distribution.locate_file(name))) for name in names}
    return found


def _with_requirements(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for requirement in found[name].requires or ():
            # Extras are not what Lambda brings.
            if "extra ==" not in requirement:
                matched = re.match(r"[A-Za-z0-9._-]+", requirement)
                assert matched is not None
                waiting.append(matched[0].lower())
    return list(found.values())
