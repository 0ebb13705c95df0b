"""Where trainer images are kept."""

from typing import Final, cast

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from constructs import Construct

UNTAGGED_DAYS: Final = 30
"""Days after which an image without a tag goes: `make image` tags all that it pushes, and tags never move."""


class ImageRepository(ecr.Repository):
    """Scanned on push, tags that never move, and no rule that removes a tagged image.

    A run is pinned to a digest and may be parked for months; a rule that keeps the newest N would take it away under
    the run, since ECR does not know what runs. docs/images.md says what keeping all costs, and how to remove by hand.
    """

    uri: str
    """`registry/name`, to which a tag or digest is added."""

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(
            scope,
            id_,
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.AES_256,
            lifecycle_rules=[
                ecr.LifecycleRule(
                    description="Images whose tag was removed by hand",
                    tag_status=ecr.TagStatus.UNTAGGED,
                    max_image_age=cdk.Duration.days(UNTAGGED_DAYS),
                )
            ],
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        # What ECR says: the construct's own `repository_uri` is put together from the ARN.
        self.uri = cast("ecr.CfnRepository", self.node.default_child).attr_repository_uri
