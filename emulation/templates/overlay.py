"""Put back into moto's answers about Batch what its CloudFormation lost and its API cannot set.

Of job definitions it drops propagateTags and platformCapabilities, lower-cases the first letter of tags and parameters,
and turns empty strings into empty lists; of job queues it drops jobStateTimeLimitActions (moto 5.2.5).
"""

from collections.abc import Mapping
from typing import Any, Final

from emulation.templates.deployment import Deployment, JobDefinition, JobQueue

OPERATIONS: Final = {"/v1/describejobdefinitions": "jobDefinitions", "/v1/describejobqueues": "jobQueues"}
"""Path -> the list in the answer that is completed."""

_DROPPED_BY_API: Final = ("schedulingPriority",)


def dropped(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what moto forgets of a RegisterJobDefinition request."""
    return {name: request[name] for name in _DROPPED_BY_API if name in request}


def complete(
    path: str, answer: dict[str, Any], deployment: Deployment, registered: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return moto's answer with what the templates say, and with `registered`, what was `dropped`, by ARN."""
    listed = OPERATIONS[path]
    return {**answer, listed: [_complete(item, deployment, registered) for item in answer.get(listed, ())]}


def _complete(item: dict[str, Any], deployment: Deployment, registered: Mapping[str, Any]) -> dict[str, Any]:
    arn = item.get("jobDefinitionArn", "")
    if arn in registered:
        return {**item, **registered[arn]}
    if arn in deployment.job_definitions:
        return _job_definition(item, deployment.job_definitions[arn])
    queue = deployment.job_queues.get(item.get("jobQueueArn", ""))
    return _job_queue(item, queue) if queue is not None else item


def _job_definition(item: dict[str, Any], definition: JobDefinition) -> dict[str, Any]:
    container = {**item.get("containerProperties", {}), **definition.properties.get("containerProperties", {})}
    completed = {**item, **definition.properties}
    return {**completed, "containerProperties": container} if container else completed


def _job_queue(item: dict[str, Any], queue: JobQueue) -> dict[str, Any]:
    actions = [
        {
            "reason": action.reason,
            "state": action.state,
            "maxTimeSeconds": action.max_time_seconds,
            "action": action.action,
        }
        for action in queue.state_time_limit_actions
    ]
    return {**item, "jobStateTimeLimitActions": actions}
