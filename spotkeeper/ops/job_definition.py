"""Derive a job definition for a run that needs another image or secrets: SubmitJob can override neither.

The derived one is a copy of the profile's, named by its content, so the same wish finds the same definition again.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.ops.failure import OperationError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

_COPIED: Final = (
    "type",
    "parameters",
    "schedulingPriority",
    "containerProperties",
    "retryStrategy",
    "propagateTags",
    "timeout",
    "platformCapabilities",
)
_NAME_CHARACTERS: Final = 128


def describe(client: "BatchClient", arn: str) -> dict[str, Any]:
    """Return a registered job definition.

    Raises:
        OperationError: if Batch does not have it, or it is not of one container.
    """
    found = client.describe_job_definitions(jobDefinitions=[arn])["jobDefinitions"]
    if not found or "containerProperties" not in found[0]:
        raise OperationError(f"{arn} is not a registered job definition of one container: deploy the environment again")
    return dict(found[0])


def derive(base: Mapping[str, Any], *, image: str | None, secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return the RegisterJobDefinition request for a copy of `base` with another image or more secrets."""
    request = {name: base[name] for name in _COPIED if base.get(name) is not None}
    container = dict(request["containerProperties"])
    if image is not None:
        container["image"] = image
    kept = [secret for secret in container.get("secrets") or [] if secret["name"] not in secrets]
    added = [{"name": name, "valueFrom": arn} for name, arn in secrets.items()]
    if kept or added:
        container["secrets"] = sorted([*kept, *added], key=lambda secret: str(secret["name"]))
    request["containerProperties"] = container
    # CloudFormation's own tags cannot be set by anybody else.
    own_tags = {name: value for name, value in (base.get("tags") or {}).items() if not name.startswith("aws:")}
    if own_tags:
        request["tags"] = own_tags
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    stem = str(base["jobDefinitionName"])[: _NAME_CHARACTERS - len(digest) - 1]
    return {"jobDefinitionName": f"{stem}-{digest}", **request}


def find(client: "BatchClient", request: Mapping[str, Any]) -> str | None:
    """Return the ARN of the definition that was registered with this request before, or None."""
    pages = client.get_paginator("describe_job_definitions").paginate(
        jobDefinitionName=request["jobDefinitionName"], status="ACTIVE"
    )
    found = [definition for page in pages for definition in page["jobDefinitions"]]
    newest = max(found, key=lambda definition: definition["revision"], default=None)
    return newest["jobDefinitionArn"] if newest else None


def register(client: "BatchClient", request: Mapping[str, Any]) -> str:
    """Return the ARN, with revision, of the definition; registers it where it is not yet."""
    return find(client, request) or client.register_job_definition(**request)["jobDefinitionArn"]
