"""The container image of the shipped job definitions: which one a profile runs, and what it is built from."""

from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import IgnoreMode
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.settings import Environment, Profile

REPOSITORY_ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = "trainer_image/Dockerfile"
ALLOW_LIST: Final = f"{DOCKERFILE}.dockerignore"

NOT_BUILT_TAG: Final = "not-built-yet.run-make-image"
"""Tag of no image: what AWS says when it cannot pull it tells what to do."""


def image_uri(environment: Environment, profile: Profile, repository_uri: str) -> str:
    """Return the image of a profile's job definition: the digest of the settings.

    An environment must exist before an image can be pushed into it, so one without a digest is deployed all the same:
    its definitions name an image that is nowhere, and `spotkeeper submit` refuses its profiles.
    """
    return environment.trainer_images.get(profile.image_variant) or f"{repository_uri}:{NOT_BUILT_TAG}"


def repositories_of(scope: Construct, environment: Environment) -> list[ecr.IRepository]:
    """Return the repositories that the settings name, beside the environment's own, for jobs to pull from.

    An image of another account, such as one that all accounts share, needs that repository's policy to allow it too.
    """
    arns = {
        f"arn:{cdk.Aws.PARTITION}:ecr:{registry.split('.')[3]}:{registry.split('.')[0]}:repository/{name}"
        for registry, _, name in (
            image.partition("@")[0].partition("/") for image in environment.trainer_images.values()
        )
    }
    return [
        ecr.Repository.from_repository_attributes(
            scope, f"TrainerImages{index}", repository_arn=arn, repository_name=arn.partition("repository/")[2]
        )
        for index, arn in enumerate(sorted(arns))
    ] + [ecr.Repository.from_repository_name(scope, f"Images-{name}", name) for name in environment.image_repositories]


class ImageSource(s3_assets.Asset):
    """What an image may be built from, uploaded when the stack is deployed; synthesis only copies and fingerprints it.

    Those are the files that Docker would take too: the allow-list beside the Dockerfile, which Docker reads by itself
    and CDK does not. Any other file of the repository changes nothing.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        allowed = (REPOSITORY_ROOT / ALLOW_LIST).read_text().splitlines()
        super().__init__(
            scope,
            id_,
            path=str(REPOSITORY_ROOT),
            ignore_mode=IgnoreMode.DOCKER,
            exclude=[*allowed, f"!{DOCKERFILE}", f"!{ALLOW_LIST}"],
        )
