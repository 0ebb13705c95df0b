"""What ECR says of an image, and the login with which Docker may push one."""

import base64
from typing import Any

from trainer_image.target import Target


def pushed_digest(ecr: Any, target: Target, tag: str) -> str | None:
    """Return `sha256:…` of the image with this tag, or None if there is none."""
    try:
        found = ecr.describe_images(repositoryName=target.name, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        return None
    digest: str = found["imageDetails"][0]["imageDigest"]
    return digest


def password(ecr: Any) -> str:
    """Return the password of Docker's user `AWS` for the registry of the account, good for twelve hours."""
    (granted,) = ecr.get_authorization_token()["authorizationData"]
    return base64.b64decode(granted["authorizationToken"]).decode().partition(":")[2]
