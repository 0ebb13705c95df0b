"""What AWS Batch refuses of a SubmitJob request, in words like its own."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from emulation.templates.deployment import JobQueue

_JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_TEXT_PATTERN: Final = re.compile(r"[A-Za-z0-9.:\s]{0,511}\*?")
_CODE_PATTERN: Final = re.compile(r"[0-9]{0,511}\*?")
_SHARE_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]{1,255}\*?")
_HIGHEST_PRIORITY: Final = 9999
_LARGEST_REQUEST_BYTES: Final = 30 * 1024
_MOST_TAGS: Final = 50
_SHORTEST_TIMEOUT_SECONDS: Final = 60
_LEAST: Final = {"VCPU": (1.0, "vCPUs"), "MEMORY": (4.0, "MiB of memory")}


class ClientException(Exception):  # noqa: N818  AWS's name of it
    """What AWS Batch refuses with HTTP 400. The text is the answer's message."""


def refusal(message: str) -> ClientException:
    """Return the exception for a message, in Batch's frame."""
    return ClientException(f"Error executing request, Exception : {message}")


def check_name(name: str) -> None:
    """Refuse a job name that does not follow Batch's grammar."""
    if not _JOB_NAME.fullmatch(name):
        raise refusal(
            "Job name should match valid pattern: up to 128 letters, numbers, hyphens and underscores, the first "
            f"alphanumeric; got {name!r}"
        )


def check_size(request: Mapping[str, Any]) -> None:
    """Refuse a request over 30 KiB: docs.aws.amazon.com/batch/latest/userguide/service_limits.html."""
    size_bytes = len(json.dumps(request).encode())
    if size_bytes > _LARGEST_REQUEST_BYTES:
        raise refusal(f"SubmitJob takes requests of up to {_LARGEST_REQUEST_BYTES} bytes; got {size_bytes}.")


def check_share(queue: JobQueue, share_identifier: str | None) -> None:
    """Refuse a fair-share job without a share identifier of Batch's grammar, and any other job with one."""
    if queue.scheduling_policy_arn and not share_identifier:
        raise refusal(f"shareIdentifier must be specified for job queue {queue.name}, which has a scheduling policy.")
    if share_identifier and not queue.scheduling_policy_arn:
        raise refusal(f"shareIdentifier can't be specified: job queue {queue.name} has no scheduling policy.")
    if share_identifier and not _SHARE_IDENTIFIER.fullmatch(share_identifier):
        raise refusal(
            "shareIdentifier takes up to 255 alphanumeric characters, which an asterisk (*) may follow; "
            f"got {share_identifier!r}."
        )


def check_priority(queue: JobQueue, *, of_definition: int | None, override: int | None) -> None:
    """Refuse a fair-share job for which neither its definition nor its request states a priority; 0 is one."""
    if queue.scheduling_policy_arn and of_definition is None and override is None:
        raise refusal("Either schedulingPriority in job definition or schedulingPriorityOverride should be specified")
    if override is not None and not 0 <= override <= _HIGHEST_PRIORITY:
        raise refusal(f"schedulingPriorityOverride must be between 0 and {_HIGHEST_PRIORITY}; got {override}.")


def check_resources(container: Mapping[str, Any]) -> None:
    """Refuse a container, overrides applied, without a whole vCPU and 4 MiB of memory."""
    stated = {entry["type"]: entry["value"] for entry in container.get("resourceRequirements") or ()}
    for kind, (least, what) in _LEAST.items():
        value = stated.get(kind, container.get({"VCPU": "vcpus", "MEMORY": "memory"}[kind]))
        try:
            is_enough = value is not None and float(value) >= least
        except ValueError:
            is_enough = False
        if not is_enough:
            raise refusal(f"A container on EC2 needs at least {least:g} {what} in resourceRequirements; got {value}.")


def check_environment(environment: Iterable[Mapping[str, str]]) -> None:
    """Refuse variables whose names are Batch's own."""
    reserved = [pair["name"] for pair in environment if pair.get("name", "").startswith("AWS_BATCH")]
    if reserved:
        raise refusal(f"Environment variables must not start with AWS_BATCH, which is reserved; got {reserved}.")


def check_limits(timeout_seconds: int | None, tags: Mapping[str, str]) -> None:
    """Refuse a time limit below Batch's least, and more tags than Batch takes."""
    if timeout_seconds is not None and timeout_seconds < _SHORTEST_TIMEOUT_SECONDS:
        raise refusal(f"Job timeout must be at least {_SHORTEST_TIMEOUT_SECONDS} seconds; got {timeout_seconds}.")
    if len(tags) > _MOST_TAGS:
        raise refusal(f"A job takes up to {_MOST_TAGS} tags; got {len(tags)}.")


def too_many_tags(of_job: Mapping[str, str], of_definition: Mapping[str, str]) -> str | None:
    """Return why Batch fails a job whose propagated tags, together with its definition's, are more than a task takes.

    Batch takes such a job and then moves it to FAILED: botocore's Batch model, SubmitJobRequest.propagateTags.
    """
    number = len({**of_definition, **of_job})
    if number <= _MOST_TAGS:
        return None
    return f"The job and its job definition have {number} tags together; up to {_MOST_TAGS} can be propagated."


def check_retry_strategy(strategy: Mapping[str, Any]) -> None:
    """Refuse attempts and `evaluateOnExit` entries that Batch does not take."""
    rules: Sequence[Mapping[str, str]] = strategy.get("evaluateOnExit") or ()
    attempts = strategy.get("attempts", None if rules else 1)
    if attempts is None or not 1 <= attempts <= 10:
        raise refusal(f"RetryStrategy attempts must be between 1 and 10; got {attempts}.")
    if len(rules) > 5:
        raise refusal(f"RetryStrategy takes up to 5 evaluateOnExit entries; got {len(rules)}.")
    for rule in rules:
        conditions = {name: pattern for name, pattern in rule.items() if name != "action"}
        if rule["action"].upper() not in {"RETRY", "EXIT"} or not conditions:
            raise refusal(f"evaluateOnExit takes a condition and the action RETRY or EXIT; got {dict(rule)}.")
        for name, pattern in conditions.items():
            grammar = _CODE_PATTERN if name == "onExitCode" else _TEXT_PATTERN
            if not grammar.fullmatch(pattern):
                raise refusal(
                    f"evaluateOnExit {name} may contain a * at its end only, as in 'Host EC2*'; got {pattern!r}."
                )
