"""The words of placement: of which market capacity is, and what a run may not exceed."""

from enum import StrEnum


class Mode(StrEnum):
    """What a run may not exceed when it cannot have both."""

    BUDGET_FIRST = "budget-first"
    """Every cap is hard: without money the run waits for spot."""
    DEADLINE_FIRST = "deadline-first"
    """The run's own cap may be crossed, after an alert; caps of environment and team stay hard."""


class Market(StrEnum):
    """Of which market a job's capacity is."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
