"""Names of the metrics that handlers emit and that dashboards and alarms read."""

from typing import Final

NAMESPACE: Final = "Spotkeeper"

EVENTS_RECEIVED: Final = "EventsReceived"
EVENTS_IGNORED: Final = "EventsIgnored"
"""Acknowledged without effect: foreign, unknown, or nothing new. The log line says why."""
EVENTS_FAILED: Final = "EventsFailed"
"""Left in the queue for redelivery, and in the end for the dead letters."""
INTERRUPTION_WARNINGS: Final = "InterruptionWarnings"
REBALANCE_RECOMMENDATIONS: Final = "RebalanceRecommendations"
QUEUES_BLOCKED: Final = "QueuesBlocked"
RUNS_CLOSED: Final = "RunsClosed"
