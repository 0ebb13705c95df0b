"""Tags on instances, jobs and resources; cost allocation and ownership are read from them."""

from typing import Final

PROJECT: Final = "spotkeeper:project"
ENVIRONMENT: Final = "spotkeeper:environment"
PROFILE: Final = "spotkeeper:profile"
MARKET: Final = "spotkeeper:market"
TEAM: Final = "spotkeeper:team"
RUN: Final = "spotkeeper:run"
SWEEP: Final = "spotkeeper:sweep"
REQUEUE: Final = "spotkeeper:requeue"
"""With REQUEUE_VALUE on a job that somebody else submits: Spotkeeper may take it for a run (see control.adoption)."""
REQUEUE_VALUE: Final = "true"
DRILL: Final = "spotkeeper:drill"
"""With DRILL_VALUE on hosts that a game day may interrupt."""
DRILL_VALUE: Final = "allowed"

PROJECT_VALUE: Final = "spotkeeper"
