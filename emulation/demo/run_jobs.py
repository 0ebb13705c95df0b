"""The Batch jobs of a run, one a submission, as Batch tells of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spotkeeper.contract import tags
from spotkeeper.contract.names import parse_job_name


@dataclass(frozen=True, kw_only=True, slots=True)
class RunJob:
    """One job."""

    job_id: str
    submission: int
    market: str
    """Of its queue, as the job's tag says."""
    created_at: datetime


class RunJobs:
    """Collects a run's jobs from what Batch says at every change, and passes those changes on.

    Args:
        run_id: Whose jobs.
        on_change: Takes a job and its JobDetail, in order.
    """

    def __init__(self, run_id: str, on_change: Callable[[RunJob, dict[str, Any]], None]) -> None:
        self._run_id = run_id
        self._on_change = on_change
        self._jobs: dict[str, RunJob] = {}

    @property
    def all(self) -> tuple[RunJob, ...]:
        """Return the jobs so far."""
        return tuple(self._jobs.values())

    def see(self, detail: dict[str, Any]) -> None:
        """Take note of a job's JobDetail."""
        named = parse_job_name(detail["jobName"])
        if named is None or named[0] != self._run_id:
            return
        job = self._jobs.setdefault(
            detail["jobId"],
            RunJob(
                job_id=detail["jobId"],
                submission=named[1],
                market=detail["tags"][tags.MARKET],
                created_at=datetime.fromtimestamp(detail["createdAt"] / 1000, UTC),
            ),
        )
        self._on_change(job, detail)
