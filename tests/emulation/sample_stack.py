"""Two small stacks in the form in which CDK writes them, with each thing that moto cannot take as it is."""

import copy
from pathlib import Path
from typing import Any

from emulation.templates.assembly import Assembly, FileAsset, StackTemplate

ASSET_BUCKET = "cdk-hnb659fds-assets-${AWS::AccountId}-us-east-1"
ASSET_KEY = "handlers.zip"

HANDLERS = '''
import importlib
import json
import os
import sys
import time

invocations = 0


def act(event, context):
    """Do what the event says."""
    global invocations
    invocations += 1
    print("invoked", invocations, flush=True)
    match event:
        case {"import": name}:
            return importlib.import_module(name).__file__
        case {"variable": name}:
            return os.environ.get(name)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"raise": message}:
            raise LookupError(message)
        case {"exit": code}:
            sys.stdout.flush()
            os._exit(code)
        case {"remaining": _}:
            return context.get_remaining_time_in_millis()
        case {"arn": _}:
            return context.invoked_function_arn
    return invocations


def consume(event, context):
    """Handle records as each body says; report those that failed."""
    failed = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        print("received", json.dumps(body), record["attributes"]["ApproximateReceiveCount"], flush=True)
        if body.get("detail", body).get("raise"):
            raise LookupError("the whole batch")
        if body.get("detail", body).get("fail"):
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
'''


def ref(logical_id: str) -> dict[str, Any]:
    return {"Ref": logical_id}


def attribute(logical_id: str, name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [logical_id, name]}


def resource(type_: str, depends_on: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"Type": type_, "Properties": properties, **({"DependsOn": depends_on} if depends_on else {})}


FOUNDATION: dict[str, Any] = {
    "Resources": {
        "Images": resource("AWS::ECR::Repository", ImageTagMutability="IMMUTABLE"),
        "Checkpoints": resource(
            "AWS::S3::Bucket",
            VersioningConfiguration={"Status": "Enabled"},
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            LifecycleConfiguration={
                "Rules": [
                    {
                        "Id": "data",
                        "Prefix": "data/",
                        "Status": "Enabled",
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                    },
                    {
                        "Id": "leftovers",
                        "Status": "Enabled",
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                        "ExpiredObjectDeleteMarker": True,
                    },
                ]
            },
        ),
        "Key": resource(
            "AWS::KMS::Key",
            KeyPolicy={"Version": "2012-10-17", "Statement": []},
            Tags=[{"Key": "spotkeeper:project", "Value": "spotkeeper"}],
        ),
        "CheckpointsPolicy": resource(
            "AWS::S3::BucketPolicy",
            Bucket=ref("Checkpoints"),
            PolicyDocument={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Deny",
                        "Principal": {"AWS": "*"},
                        "Action": "s3:*",
                        "Resource": {"Fn::Join": ["", [attribute("Checkpoints", "Arn"), "/*"]]},
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:PutObject",
                        "Resource": {"Fn::Join": ["", [attribute("Checkpoints", "Arn"), "/commit/*"]]},
                        "Condition": {
                            "Null": {"s3:if-none-match": "true"},
                            "Bool": {"s3:ObjectCreationOperation": "true"},
                        },
                    },
                ],
            },
        ),
        "Ledger": resource(
            "AWS::DynamoDB::Table",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "listing", "created_at")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "listing",
                    "KeySchema": [
                        {"AttributeName": "listing", "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True},
        ),
        "CDKMetadata": resource("AWS::CDK::Metadata", Analytics="v2:deflate64:H4sIAAAA"),
    },
    "Outputs": {
        "ExportsOutputRefLedger": {
            "Value": ref("Ledger"),
            "Export": {"Name": "sample-foundation:ExportsOutputRefLedger"},
        },
        "PublishOutputRefCheckpoints": {"Value": ref("Checkpoints")},
    },
    "Parameters": {
        "BootstrapVersion": {
            "Type": "AWS::SSM::Parameter::Value<String>",
            "Default": "/cdk-bootstrap/hnb659fds/version",
        }
    },
    "Rules": {
        "CheckBootstrapVersion": {
            "Assertions": [
                {
                    "Assert": {"Fn::Not": [{"Fn::Contains": [["1", "2"], ref("BootstrapVersion")]}]},
                    "AssertDescription": "CDK bootstrap stack version 6 required.",
                }
            ]
        }
    },
}

_FUNCTION: dict[str, Any] = {
    "Code": {"S3Bucket": {"Fn::Sub": ASSET_BUCKET}, "S3Key": ASSET_KEY},
    "Role": attribute("Role", "Arn"),
    "Runtime": "python3.13",
    "Layers": [ref("PowertoolsLayer")],
    "MemorySize": 256,
}

APPLICATION: dict[str, Any] = {
    "Resources": {
        "Vpc": resource("AWS::EC2::VPC", CidrBlock="10.0.0.0/16"),
        "Subnet": resource(
            "AWS::EC2::Subnet", VpcId=ref("Vpc"), CidrBlock="10.0.0.0/20", AvailabilityZone="us-east-1b"
        ),
        "Security": resource("AWS::EC2::SecurityGroup", VpcId=ref("Vpc"), GroupDescription="jobs"),
        "Role": resource("AWS::IAM::Role", AssumeRolePolicyDocument={"Version": "2012-10-17", "Statement": []}),
        "Hosts": resource("AWS::IAM::InstanceProfile", Roles=[ref("Role")]),
        "Template": resource(
            "AWS::EC2::LaunchTemplate",
            LaunchTemplateData={
                "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
                "UserData": {"Fn::Base64": "#!/bin/sh\necho ECS_CONTAINER_STOP_TIMEOUT=20s >> /etc/ecs/ecs.config"},
            },
        ),
        "Compute": resource(
            "AWS::Batch::ComputeEnvironment",
            Type="managed",
            ComputeResources={
                "Type": "SPOT",
                "AllocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
                "InstanceRole": attribute("Hosts", "Arn"),
                "InstanceTypes": ["m5.xlarge", "m6i.xlarge"],
                "LaunchTemplate": {
                    "LaunchTemplateId": ref("Template"),
                    "Version": attribute("Template", "LatestVersionNumber"),
                },
                "MinvCpus": 0,
                "MaxvCpus": 16,
                "SecurityGroupIds": [attribute("Security", "GroupId")],
                "Subnets": [ref("Subnet")],
                "Tags": {"spotkeeper:market": "spot"},
            },
        ),
        "Shares": resource(
            "AWS::Batch::SchedulingPolicy",
            FairsharePolicy={
                "ShareDecaySeconds": 3600,
                "ShareDistribution": [{"ShareIdentifier": "research", "WeightFactor": 1}],
            },
        ),
        "JobQueue": resource(
            "AWS::Batch::JobQueue",
            depends_on=["Shares"],
            Priority=1,
            SchedulingPolicyArn=attribute("Shares", "Arn"),
            ComputeEnvironmentOrder=[{"Order": 1, "ComputeEnvironment": attribute("Compute", "ComputeEnvironmentArn")}],
            JobStateTimeLimitActions=[
                {
                    "Action": "CANCEL",
                    "MaxTimeSeconds": 600,
                    "Reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
                    "State": "RUNNABLE",
                }
            ],
        ),
        "JobDefinition": resource(
            "AWS::Batch::JobDefinition",
            Type="container",
            PlatformCapabilities=["EC2"],
            PropagateTags=True,
            SchedulingPriority=1,
            Timeout={"AttemptDurationSeconds": 900},
            Tags={"Upper:case": "kept"},
            Parameters={"Step": ""},
            ContainerProperties={
                "Image": "public.ecr.aws/trainer:1",
                "Command": ["true"],
                "Environment": [
                    {"Name": "LEDGER", "Value": {"Fn::ImportValue": "sample-foundation:ExportsOutputRefLedger"}}
                ],
                "LogConfiguration": {
                    "LogDriver": "awslogs",
                    "Options": {"awslogs-group": "jobs", "Mode": "non-blocking"},
                },
                "ResourceRequirements": [{"Type": "VCPU", "Value": "4"}, {"Type": "MEMORY", "Value": "1024"}],
            },
        ),
        "DeadLetters": resource("AWS::SQS::Queue", MessageRetentionPeriod=1209600),
        "Events": resource(
            "AWS::SQS::Queue",
            VisibilityTimeout=60,
            RedrivePolicy={"deadLetterTargetArn": attribute("DeadLetters", "Arn"), "maxReceiveCount": 2},
        ),
        "EventsPolicy": resource(
            "AWS::SQS::QueuePolicy", Queues=[ref("Events")], PolicyDocument={"Version": "2012-10-17", "Statement": []}
        ),
        "Changes": resource(
            "AWS::Events::Rule",
            EventPattern={
                "account": [ref("AWS::AccountId")],
                "source": ["aws.batch"],
                "detail-type": ["Batch Job State Change"],
                "detail": {"jobQueue": [ref("JobQueue")]},
            },
            State="ENABLED",
            Targets=[
                {
                    "Arn": attribute("Events", "Arn"),
                    "Id": "Target0",
                    "DeadLetterConfig": {"Arn": attribute("DeadLetters", "Arn")},
                }
            ],
        ),
        "EveryHour": resource(
            "AWS::Events::Rule",
            ScheduleExpression="rate(1 hour)",
            State="ENABLED",
            Targets=[{"Arn": attribute("Scheduled", "Arn"), "Id": "Target0"}],
        ),
        "Scheduled": resource("AWS::SQS::Queue"),
        "Act": resource("AWS::Lambda::Function", **_FUNCTION, Handler="handlers.act", Timeout=2),
        "Consume": resource(
            "AWS::Lambda::Function",
            depends_on=["EventsPolicy", "Role"],
            **_FUNCTION,
            Handler="handlers.consume",
            Timeout=20,
            Environment={
                "Variables": {
                    "BUCKET": {
                        "Fn::GetStackOutput": {
                            "StackName": "sample-foundation",
                            "Region": "us-east-1",
                            "OutputName": "PublishOutputRefCheckpoints",
                        }
                    },
                    "QUEUE_URL": ref("Events"),
                }
            },
        ),
        "ConsumeEvents": resource(
            "AWS::Lambda::EventSourceMapping",
            BatchSize=10,
            EventSourceArn=attribute("Events", "Arn"),
            FunctionName=ref("Consume"),
            FunctionResponseTypes=["ReportBatchItemFailures"],
        ),
        "AllowInvoke": resource(
            "AWS::Lambda::Permission",
            Action="lambda:InvokeFunction",
            FunctionName=attribute("Consume", "Arn"),
            Principal="events.amazonaws.com",
        ),
        "Descriptor": resource(
            "AWS::SSM::Parameter",
            Name="/sample/descriptor",
            Type="String",
            Tags={"owner": "sample"},
            Value={"Fn::Join": ["", ['{"queue":"', ref("JobQueue"), '"}']]},
        ),
    },
    "Outputs": {"JobQueueArn": {"Value": attribute("JobQueue", "JobQueueArn")}},
    "Parameters": {
        "PowertoolsLayer": {
            "Type": "AWS::SSM::Parameter::Value<String>",
            "Default": "/aws/service/powertools/python/arm64/python3.13/3.37.0",
        }
    },
}


def assembly(folder: Path, *, change: Any = None) -> Assembly:
    """Return the sample as a cloud assembly with its archive in `folder`; `change` may edit the second template."""
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "handlers.py").write_text(HANDLERS)
    application = copy.deepcopy(APPLICATION)
    if change is not None:
        change(application)
    return Assembly(
        stacks=(
            StackTemplate(name="sample-foundation", template=FOUNDATION, account="", region="us-east-1"),
            StackTemplate(name="sample-application", template=application, account="", region="us-east-1"),
        ),
        file_assets=(FileAsset(path=folder / "handlers", is_folder=True, bucket=ASSET_BUCKET, key=ASSET_KEY),),
        image_assets=("Trainer",),
    )
