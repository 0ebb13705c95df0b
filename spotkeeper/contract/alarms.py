"""Names of the alarms of an environment: each is a construct id of the observability stack, and has a runbook."""

from typing import Final

ALARMS: Final = (
    "DeadLetters",
    "HandlerErrors",
    "SweeperSilent",
    "SweeperRepairing",
    "CheckpointStale",
    "MirrorStopped",
    "SpotCapacityDry",
    "BudgetHeadroom",
    "PreemptionStorm",
    "NoProgress",
    "NoticeNotHonoured",
)
"""Every alarm that tells somebody."""


def runbook(alarm: str) -> str:
    """Return the path of an alarm's runbook in the repository."""
    return f"runbooks/{alarm}.md"
