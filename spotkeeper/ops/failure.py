"""From an error to one sentence with its fix, and an exit code."""

from typing import Final

from botocore import exceptions as aws

from spotkeeper.control.ports import Conflict, Refused, ReplyLost, Throttled, UnknownRun

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C: 128 and the number of SIGINT."""

NO_CREDENTIALS: Final = "no AWS credentials found: sign in (`aws sso login`), or set AWS_PROFILE"


class OperationError(Exception):
    """What was asked cannot be done now. The message is for the user, with the fix."""


EXPECTED: Final = (
    OperationError,
    ValueError,
    Conflict,
    Refused,
    ReplyLost,
    Throttled,
    UnknownRun,
    aws.BotoCoreError,
    aws.ClientError,
)
"""What a command may end with; anything else is a defect and shows its traceback."""

_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "RequestExpired"}
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


def exit_code(error: Exception) -> int:
    """Return 2 for what the user typed, 1 for everything else."""
    return EXIT_USAGE if isinstance(error, ValueError) else EXIT_FAILURE


def sentence(error: Exception) -> str:
    """Return what to tell the user."""
    match error:
        case aws.NoCredentialsError() | aws.PartialCredentialsError():
            return f"{NO_CREDENTIALS}; --local needs none"
        case aws.ProfileNotFound():
            return f"{error}: correct AWS_PROFILE; `aws configure list-profiles` lists the profiles"
        case aws.NoRegionError():
            return "no AWS region: give --region, or set AWS_REGION"
        case aws.SSOError() | aws.TokenRetrievalError() | aws.CredentialRetrievalError():
            return f"the AWS sign-in is not usable ({error}): `aws sso login`"
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ConnectionError():
            return (
                f"{error} Check the network and --region; with --local, that the emulation still runs: "
                "`python -m emulation up` starts one"
            )
        case aws.ClientError():
            return _refusal(error)
        case Throttled():
            return f"AWS refuses calls for their rate: try again in a minute ({error})"
        case Refused():
            return f"the job was refused: {error}"
        case Conflict():
            return "somebody else changed the run at the same moment: try again"
    return str(error)


def _refusal(error: aws.ClientError) -> str:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in _EXPIRED:
        return f"AWS does not accept the credentials ({code}): sign in again (`aws sso login`)"
    if code in _DENIED:
        return f"your AWS role may not call {error.operation_name}: {message}"
    return f"AWS refused {error.operation_name}: {code}: {message}"
