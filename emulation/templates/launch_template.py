"""What a launch template changes about the machines that run jobs: the ECS agent's settings, who may reach IMDS."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from emulation.templates.deployment import UnsupportedError

_DEFAULT_STOP_TIMEOUT_SECONDS: Final = 30.0
"""github.com/aws/amazon-ecs-agent, README: ECS_CONTAINER_STOP_TIMEOUT"""
_SHORTEST_STOP_TIMEOUT_SECONDS: Final = 1.0
_DEFAULT_HOP_LIMIT: Final = 1
"""EC2's own; an AMI may raise it to 2, which a template had better not rely on."""
_HOPS_TO_A_CONTAINER: Final = 2
_SETTING: Final = re.compile(r"\bECS_CONTAINER_STOP_TIMEOUT=(\S*)")
_DURATION: Final = re.compile(r"(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")


def stop_timeout_seconds(data: Mapping[str, Any]) -> float:
    """Return how long the ECS agent waits between SIGTERM and SIGKILL, from a template's `LaunchTemplateData`.

    Raises:
        UnsupportedError: if the user data is no base64, or the setting no duration such as `110s` or `1m50s`.
    """
    try:
        user_data = base64.b64decode(data.get("UserData", ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UnsupportedError(f"the launch template's UserData must be text in base64: {error}") from error
    stated = _SETTING.findall(user_data)
    if not stated:
        return _DEFAULT_STOP_TIMEOUT_SECONDS
    duration = _DURATION.fullmatch(stated[-1])  # the last line of a file of settings counts
    seconds = 60 * int(duration["minutes"] or 0) + int(duration["seconds"] or 0) if duration else 0
    if seconds < _SHORTEST_STOP_TIMEOUT_SECONDS:
        raise UnsupportedError(
            f"ECS_CONTAINER_STOP_TIMEOUT must be a duration such as 110s or 1m50s, 1 s or more; got {stated[-1]!r}"
        )
    return float(seconds)


def metadata_reaches_containers(data: Mapping[str, Any]) -> bool:
    """Return whether IMDS answers a container, which is a hop further than its host."""
    options = data.get("MetadataOptions", {})
    hop_limit = int(options.get("HttpPutResponseHopLimit", _DEFAULT_HOP_LIMIT))
    return options.get("HttpEndpoint", "enabled") == "enabled" and hop_limit >= _HOPS_TO_A_CONTAINER
