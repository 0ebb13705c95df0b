"""Names of the metrics that handlers emit and that dashboards and alarms read.

Every metric has one dimension, the environment: CloudWatch bills each combination of name and dimensions by itself, so
a run or an instance is never one. Which function counted is a field of the log line.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NAMESPACE: Final = "Spotkeeper"
ENVIRONMENT_DIMENSION: Final = "environment"

EVENTS_RECEIVED: Final = "EventsReceived"
EVENTS_IGNORED: Final = "EventsIgnored"
"""Acknowledged without effect: foreign, unknown, or nothing new. The log line says why."""
EVENTS_FAILED: Final = "EventsFailed"
"""Left in the queue for redelivery, and in the end for the dead letters."""
INTERRUPTION_WARNINGS: Final = "InterruptionWarnings"
REBALANCE_RECOMMENDATIONS: Final = "RebalanceRecommendations"
QUEUES_BLOCKED: Final = "QueuesBlocked"
RUNS_CLOSED: Final = "RunsClosed"
RUNS_REQUEUED: Final = "RunsRequeued"
RUNS_PARKED: Final = "RunsParked"
"""Each needs a person: `spotkeeper status RUN` says why, `spotkeeper resume RUN` lets it go on."""
OTHERS_JOBS_NOTED: Final = "OthersJobsNoted"
"""Observations of jobs on our queues that are no runs: `spotkeeper status --others` lists them."""
FALLBACKS: Final = "Fallbacks"
"""Submissions that were begun on on-demand, each with its reservation."""
CAPS_CROSSED: Final = "CapsCrossed"
"""Submissions of deadline-first runs for which more was reserved than their own cap allows; the run's history says how
much more."""
WAITS_OVER_LIMIT: Final = "WaitsOverLimit"
"""Runs that wait for spot capacity for longer than the fallback limit, of those that the sweep looked at: AWS said that
it has none, and gave no machine to another job of the queue. The sweep's log line names whoever waits, and for what."""
SPOT_DOLLARS: Final = "SpotDollars"
"""Dollars of the runs that ended, at the spot price of each machine's pool; at its on-demand price where that is not
known. From the start of each container to its end, as the two below."""
ON_DEMAND_DOLLARS: Final = "OnDemandDollars"
"""What the same runs spent on on-demand."""
ON_DEMAND_EQUIVALENT_DOLLARS: Final = "OnDemandEquivalentDollars"
"""What all machine time of the same runs would have cost on demand, lost work included."""
SAVED_DOLLARS: Final = "SavedDollars"
"""The difference."""
RESERVATIONS_SETTLED: Final = "ReservationsSettled"
JOBS_STOPPED_FOR_MONEY: Final = "JobsStoppedForMoney"
"""On-demand is switched off, or the lease of a spot job could not be renewed; the job saves as on any stop."""
SUBMISSIONS_DEFERRED: Final = "SubmissionsDeferred"
"""Left to the next sweep: no slot in this second, or AWS did not answer."""
SWEEPS: Final = "Sweeps"
"""The sweeper's heartbeat: one for each sweep, as long as every open run and every reservation has its turn within 20
minutes. It stops when no sweep ends, and when sweeps do not get round in time."""
SWEEP_REPAIRS: Final = "SweepRepairs"
"""Runs that a sweep had to bring where an event should have brought them."""
SWEEP_FAILURES: Final = "SweepFailures"
"""Runs that a sweep could not reconcile; the log names them."""

# Measured by the sweeper over the open runs, as they stand when it has swept; where it has no time for all of them, as
# they stood in the last round (`control.survey`).
CHECKPOINT_AGE: Final = "CheckpointAge"
"""Seconds of work that would be lost if all machines went now, of the run that would lose most; 0: nothing runs, or
what runs never saved. A program with the library says it of itself too, every minute: before its first save, and while
the sweeper is silent."""
MIRROR_DELAY: Final = "MirrorDelay"
"""Seconds by which SageMaker's mirror is late, of the run without network for which it is latest: for how much longer
than its `max_lost` no whole checkpoint has arrived."""
BUDGET_LEFT: Final = "BudgetLeft"
"""Percent that is left of the month's caps of the environment and its teams, of the one with least left; 100: none."""
RUNS_OVER_OWN_CAP: Final = "RunsOverOwnCap"
"""Runs in mode deadline-first for which more is reserved or spent than their own cap."""
RUNS_WITHOUT_PROGRESS: Final = "RunsWithoutProgress"
"""Runs that are parked, or will be if their next submission brings no newer checkpoint either."""
RUNS_STALLED_BY_LOSSES: Final = "RunsStalledByLosses"
"""Runs that lost a host within the last 15 minutes, and have brought no newer checkpoint in two submissions or more."""
HOSTS_LOST: Final = "HostsLost"
"""Attempts that lost their host within the last 15 minutes."""
NOTICES_NOT_HONOURED: Final = "NoticesNotHonoured"
"""Attempts among those that were warned, and committed no checkpoint from two minutes before the warning on, although
they had committed some before."""

STATES: Final = frozenset({CHECKPOINT_AGE, BUDGET_LEFT, RUNS_WITHOUT_PROGRESS, WAITS_OVER_LIMIT})
"""Sent by every sweep. All others are sent only when they are not zero: a zero costs as much as any other value."""

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {CHECKPOINT_AGE: "Seconds", MIRROR_DELAY: "Seconds", BUDGET_LEFT: "Percent"}
)
"""CloudWatch's unit of a metric; those that are not here are counts."""
