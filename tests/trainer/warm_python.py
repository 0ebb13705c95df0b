"""A Python that has torch loaded and forks for each program, which so begins with its own work.

Loading torch, and what an optimizer's first step loads, takes longer than most of the tests' programs. Each fork is a
process of its own, with its own arguments, environment, input and output, and ends as any other. It shares torch's
modules with the rest and none of ours, which it imports by itself. The tests' side is forked_process.py.
"""

import json
import os
import runpy
import select
import socket
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import torch

MESSAGE_BYTES: Final = 65536


def warm_up() -> None:
    """Load what torch loads only when it is first used."""
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.ones(2))
    torch.autograd.backward(weight.sum())
    torch.optim.AdamW([weight]).step()


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork at each request, and say how each fork ended; return, in a fork, what is to be run there."""
    reports: dict[int, tuple[int, socket.socket]] = {}
    while True:
        sources: list[int | socket.socket] = [requests, *reports]
        ready, _, _ = select.select(sources, [], [])
        for process in [one for one in reports if one in ready]:
            pid, report = reports.pop(process)
            os.close(process)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with report, suppress(BrokenPipeError):
                report.send(str(code).encode())
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 3)
        if not message:
            sys.exit()
        stdin, stdout, told = descriptors
        pid = os.fork()
        if pid == 0:
            for number, descriptor in enumerate((stdin, stdout, stdout)):
                os.dup2(descriptor, number)
            requests.close()
            for process, (_, report) in reports.items():
                os.close(process)
                report.close()
        os.close(stdin)
        os.close(stdout)
        report = socket.socket(fileno=told)
        if pid == 0:
            report.close()
            request: dict[str, Any] = json.loads(message)
            return request
        report.send(str(pid).encode())
        reports[os.pidfd_open(pid)] = pid, report


def run(request: Mapping[str, Any]) -> None:
    """Run a program in this process, which ends as it does."""
    os.environ.clear()
    os.environ.update(request["environ"])
    arguments = request["arguments"]
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        arguments = arguments[2:]
    option, module, *rest = arguments
    assert option == "-m", f"only modules are run here, got {arguments}"
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    warm_up()
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
