"""Put back into moto's answers about Batch what its CloudFormation lost and its API cannot set.

Of job definitions it drops propagateTags and platformCapabilities, lower-cases the first letter of tags and parameters,
and turns empty strings into empty lists; of job queues it drops jobStateTimeLimitActions (moto 5.2.5).
"""

from typing import Any, Final

from emulation.templates.deployment import Deployment, JobDefinition, JobQueue

OPERATIONS: Final = {"/v1/describejobdefinitions": "jobDefinitions", "/v1/describejobqueues": "jobQueues"}
"""Path -> the list in the answer that is completed."""


def complete(path: str, answer: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
    """Return moto's answer with what the templates say. What was registered later stays as moto holds it."""
    listed = OPERATIONS[path]
    return {**answer, listed: [_complete(item, deployment) for item in answer.get(listed, ())]}


def _complete(item: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
    definition = deployment.job_definitions.get(item.get("jobDefinitionArn", ""))
    if definition is not None:
        return _job_definition(item, definition)
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
