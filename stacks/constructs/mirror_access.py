"""What looking at the mirrors of runs without network, and clearing them of old checkpoints, needs."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout
from stacks.constructs.nag_finding import objects_finding

_MANIFESTS: Final = f"{layout.MIRROR_PREFIX}*/{layout.COMMIT_PREFIX}*"
_READ: Final = (_MANIFESTS, f"{layout.MIRROR_PREFIX}*/{layout.COMPLETION_PREFIX}*")
_CLEARED: Final = (_MANIFESTS, f"{layout.MIRROR_PREFIX}*/{layout.DATA_PREFIX}*")


def mirror_reading(checkpoints: s3.IBucket) -> list[iam.PolicyStatement]:
    """Return the statements."""
    return [
        iam.PolicyStatement(
            sid="FindMirrored",
            actions=["s3:ListBucket"],
            resources=[checkpoints.bucket_arn],
            conditions={"StringLike": {"s3:prefix": [f"{layout.MIRROR_PREFIX}*"]}},
        ),
        iam.PolicyStatement(
            sid="ReadMirrored",
            actions=["s3:GetObject"],
            resources=[checkpoints.arn_for_objects(keys) for keys in _READ],
        ),
    ]


def mirror_clearing(checkpoints: s3.IBucket) -> iam.PolicyStatement:
    """Return the statement by which old checkpoints are deleted there: not their versions, nor what is none."""
    return iam.PolicyStatement(
        sid="ClearMirrored",
        actions=["s3:DeleteObject"],
        resources=[checkpoints.arn_for_objects(keys) for keys in _CLEARED],
    )


def mirror_roll_back(checkpoints: s3.IBucket) -> iam.PolicyStatement:
    """Return the statement by which people hide a manifest there; its version stays for a day."""
    return iam.PolicyStatement(
        sid="RollBackMirrored", actions=["s3:DeleteObject"], resources=[checkpoints.arn_for_objects(_MANIFESTS)]
    )


def acknowledge_mirror_reading(construct: Construct, checkpoints: s3.IBucket) -> None:
    """Say why they end at the kind of object."""
    _acknowledge(construct, checkpoints, _READ)


def acknowledge_mirror_clearing(construct: Construct, checkpoints: s3.IBucket) -> None:
    """Say the same of both, where both are allowed."""
    _acknowledge(construct, checkpoints, tuple(dict.fromkeys((*_READ, *_CLEARED))))


def _acknowledge(construct: Construct, checkpoints: s3.IBucket, objects: tuple[str, ...]) -> None:
    cdk.Validations.of(construct).acknowledge(
        *(
            cdk.Acknowledgment(
                id=objects_finding(checkpoints, keys),
                reason="Keys in a mirror begin with the run, whose id is made when it is submitted, and what follows "
                "the kind of object is made by its attempts.",
            )
            for keys in objects
        )
    )
