"""`spotkeeper status` says of a run at work what its job waits for."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.run import Run
from spotkeeper.ops.budgets import run_limits
from spotkeeper.ops.status import RunStatus, show_runs, show_status
from tests.control.fakes import NOW, new_run

RETRIED = new_run(state=RunState.RUNNING, job_id="job-1", waits_since=NOW, waits_why="CAPACITY")
FORGOTTEN = new_run(state=RunState.RUNNING, job_id="job-1", job_unknown_since=NOW)
ENDED = new_run(state=RunState.FAILED, job_id="job-1", waits_since=NOW, waits_why="CAPACITY", reason="exit code 3")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (RETRIED, "interrupted: waits for a machine (spot), 12s: CAPACITY"),
        (replace(RETRIED, waits_why=None), "interrupted: waits for a machine (spot), 12s"),
        (FORGOTTEN, f"running: AWS Batch does not know job job-1 (since {NOW})"),
        (ENDED, "failed: exit code 3"),
        (replace(RETRIED, pause_requested_at=NOW), "interrupted (pausing): waits for a machine (spot), 12s: CAPACITY"),
        (replace(FORGOTTEN, cancel_requested_at=NOW, pause_requested_at=NOW), f"running (cancelling): {FORGOTTEN.why}"),
        (replace(ENDED, cancel_requested_at=NOW), "failed: exit code 3"),
    ],
)
def test_what_a_run_waits_for_stands_in_the_list_and_in_its_status(run: Run, words: str) -> None:
    said = StringIO()
    console = Console(file=said, width=400)
    now = datetime.fromisoformat(NOW) + timedelta(seconds=12)

    show_runs((run,), console, now=now)
    _, listed = said.getvalue().splitlines()
    assert listed.rstrip().endswith(words.partition(": ")[2])
    assert f" {words.partition(': ')[0]} " in listed

    budget = run_limits(run).open("run/x")
    status = RunStatus(run=run, attempts=(), checkpoint=None, history=(), budget=budget, counts_spot=False)
    show_status(status, console, now=now)
    (told,) = re.findall(r"^state +(.*?) *$", said.getvalue(), re.MULTILINE)
    assert told == words
