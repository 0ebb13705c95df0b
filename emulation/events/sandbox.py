"""One process of a Lambda function: AWS's runtime client and the runtime API that it talks to."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from emulation.batch.processes import Container
from emulation.events.runtime_api import Invocation, Outcome, RuntimeApi
from emulation.templates.deployment import Function

INIT_SECONDS: Final = 30.0
"""Time to load the function. Lambda gives 10 s; this machine may be busy with training."""

TIMED_OUT: Final = "Sandbox.Timedout"


class Sandbox:
    """A function process, started at once.

    Args:
        function: What to run.
        code: The unpacked archive.
        libraries: Folder with what Lambda provides.
        environment: Variables that Lambda sets over the function's own: endpoint, region, credentials.
        mark: Names the process so that it can be found should this one die (see `emulation.batch.processes`).
        on_line: Called with each line of output.
    """

    def __init__(
        self,
        function: Function,
        *,
        code: Path,
        libraries: Path,
        environment: Mapping[str, str],
        mark: str,
        on_line: Callable[[str], None],
    ) -> None:
        self._api = RuntimeApi(function.arn)
        self._has_ended = threading.Event()
        self._container = Container(
            # Without site: neither this environment's packages nor its editable install of the repository.
            [sys.executable, "-S", "-m", "awslambdaric", function.handler],
            environment={
                **function.environment,
                **environment,
                **_lambda_variables(function),
                "AWS_LAMBDA_RUNTIME_API": self._api.address,
                "LAMBDA_TASK_ROOT": str(code),
                "PYTHONPATH": os.pathsep.join((str(code), str(libraries))),
            },
            mark=mark,
            folder=code,
            on_line=on_line,
        )
        self._container.start()
        self._waiter = threading.Thread(target=self._wait, name="function", daemon=True)
        self._waiter.start()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._has_ended.is_set()

    def load(self) -> Outcome | None:
        """Wait until the function is ready for invocations; return what kept it from that, if anything did."""
        give_up = time.monotonic() + INIT_SECONDS
        while not self._api.ready.wait(0.01):
            if self.has_ended:
                # What the function says about its failure to load comes before our word that it ended.
                return self._api.outcomes.get()
            if time.monotonic() > give_up:
                return _timed_out("", INIT_SECONDS)
        return None

    def run(self, invocation: Invocation, timeout_seconds: float) -> Outcome:
        """Hand over an invocation and wait for what becomes of it."""
        self._api.submit(invocation)
        try:
            return self._api.outcomes.get(timeout=timeout_seconds)
        except queue.Empty:
            return _timed_out(invocation.request_id, timeout_seconds)

    def kill(self) -> None:
        """End the process; a running invocation fails."""
        self._container.kill()

    def close(self) -> None:
        """End the process and everything around it."""
        self._container.kill()
        self._waiter.join()
        self._api.close()

    def _wait(self) -> None:
        code = self._container.wait()
        self._has_ended.set()
        self._api.outcomes.put(
            Outcome(
                request_id="",
                error={"errorType": "Runtime.ExitError", "errorMessage": f"the process ended with exit code {code}"},
            )
        )


def _timed_out(request_id: str, seconds: float) -> Outcome:
    message = f"{request_id} Task timed out after {seconds:.2f} seconds".strip()
    return Outcome(request_id=request_id, error={"errorType": TIMED_OUT, "errorMessage": message})


def _lambda_variables(function: Function) -> dict[str, str]:
    """Return what Lambda sets: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html."""
    return {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mib),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "emulation",
        "LANG": "en_US.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "TZ": ":UTC",
        "_HANDLER": function.handler,
    }
