"""Read a run again and again until it ends or needs a person, through refusals, short outages and lost events."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from botocore import exceptions as aws

from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.control.reconcile import observe_job
from spotkeeper.control.run import Run
from spotkeeper.control.shortage import allows_fallback
from spotkeeper.ops.connection import Connection

PASSING: Final = (Throttled, aws.HTTPClientError, aws.ConnectionError)
"""What a later repetition of a read may overcome."""

MAX_FAILURES: Final = 150
"""Reads that may fail in a row; at one each 2 seconds, five minutes."""


def wait(run_id: str, connection: Connection, *, pause: Callable[[], object]) -> Run:
    """Return the run once it has ended, or waits for a person, who may be the one that waits here.

    Raises:
        UnknownRun: the ledger has no such run.
        Throttled, BotoCoreError: no read succeeds any more.
    """
    failures = 0
    while True:
        try:
            run = read(run_id, connection)
        except PASSING:
            failures += 1
            if failures >= MAX_FAILURES:
                raise
        else:
            failures = 0
            if run.is_closed or run.needs_person:
                return run
        pause()


def read(run_id: str, connection: Connection) -> Run:
    """Return the run; one whose job has ended is moved on first, should the event of that be late or lost.

    Except one that may fall back and is not complete: only the control plane's own functions may submit to on-demand
    queues, and a refusal here would park the run. Their sweeper moves it within five minutes.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    run = connection.run_of(run_id)
    if not run.is_live or run.job_id is None:
        return run
    job = connection.batch.describe(run.job_id)
    if job is None or not job.has_ended:
        return run
    if not run.is_complete and allows_fallback(run, connection.ports):
        return run
    with suppress(Conflict):  # Somebody observes at this moment; the read shows what they wrote.
        observe_job(run.job_id, ports=connection.ports, now=_now())
    return connection.run_of(run_id)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
