"""Are the roles there by which AWS's services work for one another in this account?

AWS Batch makes its own when the first compute environment is made, and by it those of the three others, when they are
first needed (AWS managed policy BatchServiceRolePolicy, v8). Where an organization forbids that, hosts never come.
"""

from collections.abc import Iterator
from typing import Final

from botocore.exceptions import ClientError

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

ROLES: Final = {
    "AWSServiceRoleForBatch": "batch.amazonaws.com",
    "AWSServiceRoleForAutoScaling": "autoscaling.amazonaws.com",
    "AWSServiceRoleForEC2Spot": "spot.amazonaws.com",
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
}
"""Role -> service."""


def service_roles_exist(examined: Examined) -> Iterator[Finding]:
    """Each service-linked role exists."""
    iam = examined.client("iam")
    for role, service in ROLES.items():
        try:
            iam.get_role(RoleName=role)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            yield Finding(
                subject=f"service-linked role {role}",
                value="missing",
                expected="there before the first job: AWS Batch makes it only where it may",
                fix=f"`aws iam create-service-linked-role --aws-service-name {service}`",
            )
