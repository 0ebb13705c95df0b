"""Which failures of AWS no retry cures, and what does."""

from typing import Final

from botocore.exceptions import (
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

NO_PERMISSION: Final = "give the job's role this permission, or use the bucket and the table of its own environment"
NOT_THERE: Final = "there is no such thing in this account and region: correct its name, or deploy the environment"
NO_CREDENTIALS: Final = "there are no AWS credentials: give the job a role, or set AWS_PROFILE"
NO_REGION: Final = "set AWS_DEFAULT_REGION"

_OF_CODE: Final = {
    "AccessDenied": NO_PERMISSION,
    "AccessDeniedException": NO_PERMISSION,
    "AllAccessDisabled": NO_PERMISSION,
    "AccountProblem": NO_PERMISSION,
    "InvalidAccessKeyId": NO_CREDENTIALS,
    "SignatureDoesNotMatch": NO_CREDENTIALS,
    "UnrecognizedClientException": NO_CREDENTIALS,
    "401": NO_CREDENTIALS,
    "403": NO_PERMISSION,  # a HEAD has no body to say more in
    "NoSuchBucket": NOT_THERE,
    "ResourceNotFoundException": NOT_THERE,
}


def remedy(error: Exception) -> str | None:
    """Return what has to be changed after a refusal that would be repeated for ever; None for what may pass.

    An expired token is not among them, nor a clock that is wrong: both are put right without anybody's doing.
    `NoCredentialsError` is: ask only after having tried for a while, because a role's credentials may come late.
    """
    if isinstance(error, ClientError):
        return _OF_CODE.get(error.response["Error"].get("Code", ""))
    if isinstance(error, NoRegionError):
        return NO_REGION
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return NO_CREDENTIALS
    return None
