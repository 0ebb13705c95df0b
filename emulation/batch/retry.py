"""AWS Batch's decision after an attempt: try again, or give up. Pure.

Source: botocore's Batch model, RetryStrategy and EvaluateOnExit, and
docs.aws.amazon.com/batch/latest/userguide/job_retries.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """What Batch does with a job whose attempt failed."""

    RETRY = "RETRY"
    EXIT = "EXIT"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOutcome:
    """How an attempt ended. None means that Batch has no such field for it, as `exit_code` when the host died."""

    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None
    stopped_by_batch: bool = False
    """Cancelled, terminated or timed out: such jobs are never retried."""


def decide(
    outcome: AttemptOutcome, rules: Sequence[Mapping[str, str]], *, attempts_made: int, attempts_allowed: int
) -> Decision:
    """Return what Batch does after an attempt that did not succeed.

    Args:
        outcome: How the attempt ended.
        rules: `evaluateOnExit`, in order: the first entry whose conditions all hold decides.
        attempts_made: Attempts so far, this one included.
        attempts_allowed: `retryStrategy.attempts`, 1 to 10.
    """
    if outcome.stopped_by_batch or attempts_made >= attempts_allowed:
        return Decision.EXIT
    for rule in rules:
        if _holds(rule, outcome):
            return Decision(rule["action"].upper())
    return Decision.RETRY  # no match means retry


def _holds(rule: Mapping[str, str], outcome: AttemptOutcome) -> bool:
    fields = {
        "onStatusReason": outcome.status_reason,
        "onReason": outcome.reason,
        "onExitCode": None if outcome.exit_code is None else str(outcome.exit_code),
    }
    return all(_matches(rule[name], value) for name, value in fields.items() if name in rule)


def _matches(pattern: str, value: str | None) -> bool:
    """Match a pattern whose only wildcard is a `*` at its end; a field that is absent matches nothing, not even `*`."""
    if value is None:
        return False
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern
