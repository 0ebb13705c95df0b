"""What outlives everything else: the checkpoint bucket, the ledger table and the image repository.

They stand directly under the stack and never move: another path is another logical id, which CloudFormation
takes for a new, empty resource. A test pins the ids.
"""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout
from spotkeeper.contract import image_build
from spotkeeper.contract import ledger as ledger_keys
from stacks.constructs.image_repository import ImageRepository
from stacks.constructs.storage_key import StorageKey
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment

NONCURRENT_DAYS = {
    # Checkpoint data is large and never overwritten: an old version is one that retention deleted.
    layout.DATA_PREFIX: 1,
    layout.MIRROR_PREFIX: 1,
    # Manifests, epoch markers and sources are small, and tell what happened.
    layout.COMMIT_PREFIX: 30,
    layout.EPOCH_PREFIX: 30,
    layout.SOURCE_PREFIX: 30,
}
"""Days after which versions that a deletion or an overwrite made noncurrent expire. Current ones never do."""

CREATE_ONLY_PREFIXES = (layout.COMMIT_PREFIX, layout.EPOCH_PREFIX, layout.SOURCE_PREFIX)
"""Where an object, once written, is what it is: manifests, the epochs that fence, and the sources that jobs execute.

Not `data/`: boto3's managed upload of large objects takes no `If-None-Match`. What is overwritten there fails the
checksum in its manifest, and the version before is kept for a day. Not `mirror/`, which SageMaker overwrites.
"""


class StorageStack(EnvironmentStack):
    """Checkpoint bucket, ledger table and image repository; all are retained when the stack is deleted."""

    checkpoints: s3.IBucket
    ledger: dynamodb.ITable
    images: ImageRepository

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, **kwargs: Any) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        key = StorageKey(self, "Key") if environment.has_own_key else None
        checkpoints = s3.Bucket(
            self,
            "Checkpoints",
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=key,
            # One request to KMS for many objects, instead of one for each.
            bucket_key_enabled=True if key else None,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=_lifecycle_rules(),
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        checkpoints.add_to_resource_policy(_refuse_overwriting(checkpoints))
        cdk.Validations.of(checkpoints).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-S1",
                reason="Only the environment's own roles may use this bucket. Who wrote what stands in the manifests "
                "and the ledger; access logs would be one more object for every checkpoint object.",
            )
        )

        ledger = dynamodb.Table(
            self,
            "Ledger",
            partition_key=dynamodb.Attribute(name=ledger_keys.PARTITION_KEY, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name=ledger_keys.SORT_KEY, type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if key else None,
            encryption_key=key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute=ledger_keys.TIME_TO_LIVE,
            deletion_protection=environment.is_protected,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        ledger.add_global_secondary_index(
            index_name=ledger_keys.LISTING_INDEX,
            partition_key=dynamodb.Attribute(
                name=ledger_keys.LISTING_PARTITION_KEY, type=dynamodb.AttributeType.STRING
            ),
            sort_key=dynamodb.Attribute(name=ledger_keys.LISTING_SORT_KEY, type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.checkpoints = checkpoints
        self.ledger = ledger
        self.images = ImageRepository(self, "Images")
        # For `make image`, which comes before anything else knows of the environment.
        cdk.CfnOutput(self, image_build.REPOSITORY_OUTPUT, value=self.images.uri)


def _lifecycle_rules() -> list[s3.LifecycleRule]:
    return [
        s3.LifecycleRule(
            id="leftovers",
            abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
            expired_object_delete_marker=True,
        ),
        *(
            s3.LifecycleRule(
                id=prefix.rstrip("/"), prefix=prefix, noncurrent_version_expiration=cdk.Duration.days(days)
            )
            for prefix, days in NONCURRENT_DAYS.items()
        ),
    ]


def _refuse_overwriting(bucket: s3.Bucket) -> iam.PolicyStatement:
    """A commit is the creation of a manifest; nobody may write one without `If-None-Match`, whatever else they may.

    ObjectCreationOperation exempts the parts of a multipart upload, which take no such header:
    docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
    """
    return iam.PolicyStatement(
        sid="CreateOnly",
        effect=iam.Effect.DENY,
        principals=[iam.AnyPrincipal()],
        actions=["s3:PutObject"],
        resources=[bucket.arn_for_objects(f"{prefix}*") for prefix in CREATE_ONLY_PREFIXES],
        conditions={"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    )
