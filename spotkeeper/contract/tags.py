"""Tags on instances, jobs and resources; cost allocation and ownership are read from them."""

from typing import Final

PROJECT: Final = "spotkeeper:project"
ENVIRONMENT: Final = "spotkeeper:environment"
PROFILE: Final = "spotkeeper:profile"
MARKET: Final = "spotkeeper:market"
TEAM: Final = "spotkeeper:team"
RUN: Final = "spotkeeper:run"

PROJECT_VALUE: Final = "spotkeeper"
