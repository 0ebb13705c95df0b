"""Which runs of a team go first: the user's word, for a job that waits as well as for those to come.

AWS Batch orders the jobs of one share, which is a team, by priority; between teams the shares decide. SubmitJob fixes
a job's priority, so one that waits for a machine is withdrawn and submitted again; one that has a machine goes on.
SageMaker has no queue, so a run there has no priority: its job would be stopped, each time it is said, for nothing.
"""

from typing import Final

from spotkeeper.contract import training
from spotkeeper.control.classify import PRIORITY_REASON
from spotkeeper.control.ports import Conflict, JobStatus, Ports, UnknownRun
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market

USUAL: Final = 100
"""Of a run that nobody gave a priority."""
HIGHEST: Final = 9999
"""AWS Batch takes 0 to this."""
NO_QUEUE: Final = "SageMaker has no queue in which a run could go before another"


def check_priority(priority: int) -> int:
    """Return a priority that AWS Batch takes.

    Raises:
        ValueError: if it does not.
    """
    if not 0 <= priority <= HIGHEST:
        raise ValueError(f"a priority must be 0 to {HIGHEST} (higher goes first; usual: {USUAL}), got {priority}")
    return priority


def prioritize(run_id: str, priority: int, *, ports: Ports) -> Run:
    """Give a run its priority among those of its team, and return it. Saying so twice is saying so once.

    Raises:
        UnknownRun: the ledger has no such run.
        ValueError: AWS Batch takes no such priority, or the run is on SageMaker, which takes none.
    """
    check_priority(priority)
    run = _recorded(run_id, priority, ports)
    # A job on on-demand has money set aside for it, and waits minutes at most.
    if run.is_live and run.job_id is not None and run.market == Market.SPOT:
        job = ports.batch.describe(run.job_id)
        if job is not None and job.status is JobStatus.RUNNABLE and job.order.priority != priority:
            ports.batch.withdraw(job.job_id, PRIORITY_REASON)
    return run


def _recorded(run_id: str, priority: int, ports: Ports) -> Run:
    while True:
        run = ports.ledger.get(run_id)
        if run is None:
            raise UnknownRun(run_id)
        if training.is_queue(run.job_queue):
            raise ValueError(f"{NO_QUEUE}: {run_id} has no priority")
        if run.is_closed or run.priority == priority:
            return run
        try:
            return ports.ledger.advance(run, priority=priority)
        except Conflict:
            continue
