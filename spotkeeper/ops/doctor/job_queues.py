"""Do the queues take jobs, and have the compute environments behind them no fault of their own?"""

from collections.abc import Iterator
from typing import Any

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def queues_take_jobs(examined: Examined) -> Iterator[Finding]:
    """Every queue of the descriptor exists, is ENABLED and VALID, and so are its compute environments."""
    queues = examined.job_queues()
    known = {queue["jobQueueArn"] for queue in queues}
    for name, profile in examined.descriptor.profiles.items():
        for market, arn in (("spot", profile.spot_queue), ("on-demand", profile.on_demand_queue)):
            if arn not in known:
                yield Finding(
                    subject=f"queue of profile {name}, {market}: {arn}",
                    value="missing",
                    expected="there: the descriptor names it",
                    fix=examined.deploy,
                )
    for queue in queues:
        change = f"batch update-job-queue --job-queue {queue['jobQueueName']} --state ENABLED"
        yield from _state(examined, queue, f"queue {queue['jobQueueName']}", change)
    for hosts in examined.compute_environments():
        name = hosts["computeEnvironmentName"]
        change = f"batch update-compute-environment --compute-environment {name} --state ENABLED"
        yield from _state(examined, hosts, f"compute environment {name}", change)


def _state(examined: Examined, described: dict[str, Any], subject: str, change: str) -> Iterator[Finding]:
    if described["state"] != "ENABLED":
        yield Finding(
            subject=subject,
            value=f"state {described['state']}",
            expected="ENABLED: no new job starts otherwise",
            fix=examined.aws(change),
        )
    if described["status"] not in ("VALID", "UPDATING"):
        reason = described.get("statusReason") or "AWS Batch gives no reason"
        yield Finding(
            subject=subject,
            value=f"status {described['status']}: {reason}",
            expected="VALID: AWS Batch starts no hosts otherwise",
            fix=f"remove the reason that it gives, then {examined.aws(change)}, which makes AWS Batch look again",
        )
