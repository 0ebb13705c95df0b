"""What SageMaker refuses of a CreateTrainingJob request, and what the emulation does not do.

Messages follow those that AWS was seen to send, as far as they are public; nothing should be decided by them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_IMAGE: Final = re.compile(
    r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/\S+(:[^:@/]+|@sha256:[0-9a-f]{64})"
)
_MOST_PREFERENCES: Final = 5
_MOST_SECONDS: Final = 28 * 86_400
_NOT_EMULATED: Final = {
    "RetryStrategy": "retries after its own internal errors",
    "SessionChainingConfig": "session chaining",
    "ServerlessJobConfig": "serverless jobs",
    "DebugHookConfig": "the debugger",
}
_RESOURCES_NOT_EMULATED: Final = {
    "InstanceGroups": "heterogeneous clusters",
    "TrainingPlanArn": "training plans",
    "KeepAlivePeriodInSeconds": "warm pools",
    "InstancePlacementConfig": "placement of instances",
}


class SageMakerRefusal(Exception):  # noqa: N818  not an error of the emulation: an answer of AWS's
    """What SageMaker refuses with HTTP 400."""

    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


def check_request(request: Mapping[str, Any], *, region: str) -> None:
    """Refuse what SageMaker would, whatever else there is in the account.

    Raises:
        SageMakerRefusal: naming the first thing that is wrong.
    """
    for given, fields in ((request, _NOT_EMULATED), (request["ResourceConfig"], _RESOURCES_NOT_EMULATED)):
        for field, what in fields.items():
            if given.get(field):
                raise SageMakerRefusal(f"{field}: the emulation does not do {what} yet")
    if not _NAME.fullmatch(request["TrainingJobName"]):
        raise SageMakerRefusal(
            f"1 validation error detected: Value '{request['TrainingJobName']}' at 'trainingJobName' failed to satisfy "
            r"constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
        )
    if not _ROLE.fullmatch(request["RoleArn"]):
        raise SageMakerRefusal(f"Value '{request['RoleArn']}' at 'roleArn' is not the ARN of a role")
    _check_image(request["AlgorithmSpecification"], region)
    _check_resources(request)
    _check_times(request)
    for channel in request.get("InputDataConfig") or ():
        _check_channel(channel)


def _check_image(algorithm: Mapping[str, Any], region: str) -> None:
    if algorithm["TrainingInputMode"] != "File":
        raise SageMakerRefusal(f"TrainingInputMode {algorithm['TrainingInputMode']}: the emulation does File only")
    image = _IMAGE.fullmatch(algorithm.get("TrainingImage", ""))
    if image is None or image["region"] != region:
        raise SageMakerRefusal(
            f"Invalid TrainingImage {algorithm.get('TrainingImage')!r}: it must be in an ECR repository of {region}, "
            "ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG or …@sha256:DIGEST"
        )


def _check_resources(request: Mapping[str, Any]) -> None:
    resources = request["ResourceConfig"]
    preferences = resources.get("InstancePreferences") or ()
    if preferences and (resources.get("InstanceType") or request.get("EnableManagedSpotTraining")):
        raise SageMakerRefusal(
            "InstancePreferences is mutually exclusive with InstanceType and EnableManagedSpotTraining"
        )
    if len(preferences) > _MOST_PREFERENCES:
        raise SageMakerRefusal(
            f"InstancePreferences takes up to {_MOST_PREFERENCES} instance types; got {len(preferences)}"
        )
    if not preferences and not resources.get("InstanceType"):
        raise SageMakerRefusal("ResourceConfig needs an InstanceType or InstancePreferences")
    if resources.get("InstanceCount", 0) < 1 and not preferences:
        raise SageMakerRefusal(f"InstanceCount must be at least 1; got {resources.get('InstanceCount')}")


def _check_times(request: Mapping[str, Any]) -> None:
    times = request.get("StoppingCondition") or {}
    runtime, wait = times.get("MaxRuntimeInSeconds"), times.get("MaxWaitTimeInSeconds")
    if runtime is not None and runtime > _MOST_SECONDS:
        raise SageMakerRefusal(f"MaxRuntimeInSeconds may be up to {_MOST_SECONDS}; got {runtime}")
    if request.get("EnableManagedSpotTraining"):
        # The API says "greater than or equal", the developer guide "larger": what both allow passes.
        if wait is None or runtime is None or wait <= runtime:
            raise SageMakerRefusal(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
                f" (here: greater); got {wait} and {runtime}"
            )
    elif wait is not None:
        raise SageMakerRefusal(f"MaxWaitTimeInSeconds is for managed spot training only; got {wait}")


def _check_channel(channel: Mapping[str, Any]) -> None:
    source = channel["DataSource"].get("S3DataSource") or {}
    if source.get("S3DataType") != "S3Prefix" or source.get("S3DataDistributionType", "FullyReplicated") != (
        "FullyReplicated"
    ):
        raise SageMakerRefusal(
            f"channel {channel['ChannelName']}: the emulation does fully replicated S3 prefixes only"
        )
    if channel.get("InputMode", "File") != "File" or channel.get("CompressionType", "None") != "None":
        raise SageMakerRefusal(
            f"channel {channel['ChannelName']}: the emulation does uncompressed input in File mode only"
        )
