"""Is the image that jobs run there?"""

import re
from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract.image_variant import image_variant
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding, NotChecked

_ECR: Final = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/(.+)@(sha256:[0-9a-f]{64})")
_MISSING: Final = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})


def images_exist(examined: Examined) -> Iterator[Finding]:
    """Every variant that a profile runs is set, and its digest is in its repository."""
    descriptor = examined.descriptor
    ecr = examined.client("ecr")
    for variant in sorted({str(image_variant(profile.gpus)) for profile in descriptor.profiles.values()}):
        image = descriptor.trainer_images.get(variant)
        build = f"`make image ENV={descriptor.environment} VARIANT={variant}`"
        if image is None:
            yield Finding(
                subject=f"trainer image, variant {variant}",
                value="not set",
                expected="a digest in trainer_images of stacks/environments.py: without it, runs need --image",
                fix=f"{build}, set the digest that it prints, {examined.deploy}",
            )
        elif not _is_in_repository(ecr, image):
            yield Finding(
                subject=f"trainer image, variant {variant}",
                value=f"{image} is not in its repository",
                expected="there: hosts pull it when a job starts",
                fix=f"{build}, set the digest that it prints, {examined.deploy}",
            )


def _is_in_repository(ecr: Any, image: str) -> bool:
    match = _ECR.fullmatch(image)
    if match is None:
        raise NotChecked(f"{image} is not in ECR")
    account, repository, digest = match.groups()
    try:
        ecr.describe_images(registryId=account, repositoryName=repository, imageIds=[{"imageDigest": digest}])
    except ClientError as error:
        if error.response["Error"]["Code"] not in _MISSING:
            raise
        return False
    return True
