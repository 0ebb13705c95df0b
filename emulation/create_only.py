"""S3's refusal of a write without `If-None-Match` where the bucket's policy wants one; moto ignores conditions.

Known by path (`/bucket/key`), as clients address an endpoint that is an IP address. Forms that browsers post are not.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from emulation.templates.deployment import CreateOnly

_OTHER_ACTIONS: Final = frozenset({"acl", "legal-hold", "retention", "tagging", "encryption", "renameObject"})
"""Subresources that a PUT of a key may set; each is an action of its own."""


def refused_key(environ: Mapping[str, Any], guarded: Iterable[CreateOnly]) -> str | None:
    """Return the ARN of the object that a request must not write, or None if it may go on."""
    if environ.get("HTTP_IF_NONE_MATCH"):
        return None
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    is_part = "partNumber" in query or "uploads" in query
    is_put = environ["REQUEST_METHOD"] == "PUT" and not _OTHER_ACTIONS & set(query)
    is_multipart_post = environ["REQUEST_METHOD"] == "POST" and bool({"uploads", "uploadId"} & set(query))
    if not is_put and not is_multipart_post:
        return None
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    for keys in guarded:
        if bucket == keys.bucket and key.startswith(keys.key_prefix) and key and not (is_part and keys.exempts_parts):
            return f"arn:aws:s3:::{bucket}/{key}"
    return None


def access_denied(arn: str, account: str) -> bytes:
    """Return S3's answer, in the shape of every error of S3's."""
    message = (
        f"User: arn:aws:iam::{account}:root is not authorized to perform: s3:PutObject on resource: "
        f'"{arn}" with an explicit deny in a resource-based policy'
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>AccessDenied</Code><Message>{escape(message)}</Message>"
        "<RequestId>EMULATION</RequestId><HostId>emulation</HostId></Error>"
    ).encode()
