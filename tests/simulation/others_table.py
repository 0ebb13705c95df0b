"""The ledger's record of others' jobs in memory, and a program's way to it."""

from spotkeeper.control.others import OthersJob
from spotkeeper.control.ports import Conflict
from tests.simulation.fakes import Link


class OthersTable:
    """What is known of jobs that are no runs. Every method is atomic."""

    def __init__(self) -> None:
        self.jobs: dict[str, OthersJob] = {}

    def record(self, job: OthersJob) -> bool:
        known = self.jobs.get(job.job_id)
        if known is not None and (known.facts, known.observed_at) >= (job.facts, job.observed_at):
            raise Conflict
        self.jobs[job.job_id] = job
        return known is None or known.facts < job.facts


class LinkedOthers:
    """`ports.OthersJobs` over a link."""

    def __init__(self, table: OthersTable, link: Link) -> None:
        self._table, self._link = table, link

    def record(self, job: OthersJob, *, expires_at: int) -> bool:
        assert expires_at > 0
        try:
            return self._link.call(
                "others.record", self._link.swarm.write, lambda: self._table.record(job), lost=ConnectionError
            )
        except Conflict:
            return False

    def list_jobs(self, limit: int) -> tuple[OthersJob, ...]:
        def newest() -> tuple[OthersJob, ...]:
            jobs = sorted(self._table.jobs.values(), key=lambda job: (job.created_at, job.job_id), reverse=True)
            return tuple(jobs[:limit])

        return self._link.call("others.list_jobs", self._link.swarm.read, newest, lost=ConnectionError)
