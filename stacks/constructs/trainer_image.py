"""The container image of the shipped job definitions."""

from pathlib import Path
from typing import Final

from aws_cdk import IgnoreMode
from aws_cdk import aws_ecr_assets as ecr_assets
from constructs import Construct

REPOSITORY_ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = "trainer_image/Dockerfile"
ALLOW_LIST: Final = f"{DOCKERFILE}.dockerignore"


class TrainerImage(ecr_assets.DockerImageAsset):
    """`trainer_image/Dockerfile`, built at deployment; synthesis only fingerprints the files that it may use.

    Those are the ones that Docker would take too: the allow-list beside the Dockerfile, which Docker reads by
    itself and CDK does not. Any other file of the repository changes neither image nor job definition.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        allowed = (REPOSITORY_ROOT / ALLOW_LIST).read_text().splitlines()
        super().__init__(
            scope,
            id_,
            directory=str(REPOSITORY_ROOT),
            file=DOCKERFILE,
            platform=ecr_assets.Platform.LINUX_AMD64,
            ignore_mode=IgnoreMode.DOCKER,
            exclude=[*allowed, f"!{DOCKERFILE}", f"!{ALLOW_LIST}"],
        )
