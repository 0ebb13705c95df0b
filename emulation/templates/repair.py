"""Set through the API, from the template, what moto's CloudFormation drops (moto 5.2.5)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from emulation.aws import Aws
from emulation.templates.adapt import Note
from emulation.templates.deployment import Resource
from emulation.templates.read_back import fairshare_policy

_Repair = Callable[[Aws, Resource, Any], None]


def repair(aws: Aws, resources: Iterable[Resource]) -> tuple[Note, ...]:
    """Set everything that was dropped; return a note for each setting.

    Raises:
        ValueError: if a lifecycle rule uses what is not translated yet.
    """
    notes = []
    for resource in resources:
        for setting, apply in _REPAIRS.get(resource.type, {}).items():
            value = resource.properties.get(setting)
            if value:
                apply(aws, resource, value)
                notes.append(
                    Note(
                        logical_id=resource.logical_id,
                        type=resource.type,
                        reason=f"moto's CloudFormation drops {setting}; set through the API",
                    )
                )
    return tuple(notes)


def _bucket_versioning(aws: Aws, resource: Resource, value: Any) -> None:
    aws.s3.put_bucket_versioning(Bucket=resource.physical_id, VersioningConfiguration={"Status": value["Status"]})


def _bucket_public_access(aws: Aws, resource: Resource, value: Any) -> None:
    aws.s3.put_public_access_block(Bucket=resource.physical_id, PublicAccessBlockConfiguration=value)


def _bucket_lifecycle(aws: Aws, resource: Resource, value: Any) -> None:
    aws.s3.put_bucket_lifecycle_configuration(
        Bucket=resource.physical_id,
        LifecycleConfiguration={"Rules": [lifecycle_rule(resource, rule) for rule in value["Rules"]]},
    )


_SAME_IN_BOTH: Final = ("Status", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")


def lifecycle_rule(resource: Resource, rule: Mapping[str, Any]) -> Any:
    """Turn CloudFormation's form of a lifecycle rule into the API's.

    Raises:
        ValueError: naming a member that is not translated yet.
    """
    untranslated = set(rule) - {*_SAME_IN_BOTH, "Id", "Prefix", "ExpirationInDays", "ExpiredObjectDeleteMarker"}
    if untranslated:
        raise ValueError(
            f"lifecycle rule {rule.get('Id', '')!r} of {resource.logical_id} has {sorted(untranslated)}, which "
            "emulation/templates/repair.py does not translate for moto yet"
        )
    translated = {key: rule[key] for key in _SAME_IN_BOTH if key in rule}
    translated["Filter"] = {"Prefix": rule.get("Prefix", "")}
    if "Id" in rule:
        translated["ID"] = rule["Id"]
    expiration = {
        name: rule[key]
        for key, name in (("ExpirationInDays", "Days"), ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"))
        if key in rule
    }
    if expiration:
        translated["Expiration"] = expiration
    return translated


def _table_time_to_live(aws: Aws, resource: Resource, value: Any) -> None:
    aws.dynamodb.update_time_to_live(TableName=resource.physical_id, TimeToLiveSpecification=value)


def _table_point_in_time_recovery(aws: Aws, resource: Resource, value: Any) -> None:
    aws.dynamodb.update_continuous_backups(TableName=resource.physical_id, PointInTimeRecoverySpecification=value)


def _scheduling_policy(aws: Aws, resource: Resource, _: Any) -> None:
    name = resource.physical_id.rsplit("/", 1)[-1]
    created: Any = aws.batch.create_scheduling_policy(name=name, fairsharePolicy=fairshare_policy(aws, resource))  # type: ignore[arg-type]  # checked by botocore
    assert created["arn"] == resource.physical_id


def _queue_scheduling_policy(aws: Aws, resource: Resource, value: str) -> None:
    aws.batch.update_job_queue(jobQueue=resource.physical_id, schedulingPolicyArn=value)


def _route_table(aws: Aws, resource: Resource, value: str) -> None:
    aws.ec2.associate_route_table(RouteTableId=value, SubnetId=resource.properties["SubnetId"])


# Type -> setting -> how it is set. Scheduling policies come before the queues in every template that has both.
_REPAIRS: Final[Mapping[str, Mapping[str, _Repair]]] = {
    "AWS::Batch::SchedulingPolicy": {"FairsharePolicy": _scheduling_policy},
    "AWS::Batch::JobQueue": {"SchedulingPolicyArn": _queue_scheduling_policy},
    "AWS::EC2::SubnetRouteTableAssociation": {"RouteTableId": _route_table},
    "AWS::S3::Bucket": {
        "VersioningConfiguration": _bucket_versioning,
        "PublicAccessBlockConfiguration": _bucket_public_access,
        "LifecycleConfiguration": _bucket_lifecycle,
    },
    "AWS::DynamoDB::Table": {
        "TimeToLiveSpecification": _table_time_to_live,
        "PointInTimeRecoverySpecification": _table_point_in_time_recovery,
    },
}
