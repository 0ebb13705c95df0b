"""The one thing of bucket policies that is enforced: keys that nobody may write without `If-None-Match`.

docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
"""

from collections.abc import Iterator
from typing import Any, Final

from emulation.templates.deployment import CreateOnly, Resource, UnsupportedError

_ARN: Final = "arn:aws:s3:::"
_ABOUT_TRANSPORT: Final = frozenset({"aws:SecureTransport", "s3:TlsVersion"})
"""Not enforced: the endpoint on the loopback speaks plain HTTP."""
_WITHOUT_CONDITION: Final = {"s3:if-none-match": "true"}
_NOT_PARTS: Final = {"s3:ObjectCreationOperation": "true"}


def create_only(policy: Resource) -> Iterator[CreateOnly]:
    """Return the keys that a bucket policy guards. What it allows needs no permission here.

    Raises:
        UnsupportedError: if it denies anything else than a transport and writes without `If-None-Match`.
    """
    for statement in policy.properties["PolicyDocument"]["Statement"]:
        about = {key for operator in statement.get("Condition", {}).values() for key in operator}
        if statement["Effect"] == "Deny" and (not about or about - _ABOUT_TRANSPORT):
            yield from _create_only(policy, statement)


def _create_only(policy: Resource, statement: dict[str, Any]) -> Iterator[CreateOnly]:
    conditions = dict(statement.get("Condition", {}))
    exempts_parts = conditions.pop("Bool", None) == _NOT_PARTS
    is_known = conditions == {"Null": _WITHOUT_CONDITION} and ("Bool" in statement["Condition"]) == exempts_parts
    for resource in _listed(statement["Resource"]):
        bucket, _, keys = resource.removeprefix(_ARN).partition("/")
        if not is_known or _listed(statement["Action"]) != ["s3:PutObject"] or not keys.endswith("*"):
            raise UnsupportedError(
                f"bucket policy {policy.logical_id} denies {statement['Action']} on {resource} under the condition "
                f"{statement.get('Condition')}; the emulation enforces s3:PutObject under a key prefix with the "
                "condition Null s3:if-none-match, with or without Bool s3:ObjectCreationOperation"
            )
        yield CreateOnly(bucket=bucket, key_prefix=keys[:-1], exempts_parts=exempts_parts)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
