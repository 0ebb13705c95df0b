"""Events as AWS documents them, with our account, region and a real time."""

from typing import Any

ACCOUNT = "123456789012"
REGION = "us-east-1"


def _event(source: str, detail_type: str, resources: list[str], detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "12345678-1234-1234-1234-123456789012",
        "detail-type": detail_type,
        "source": source,
        "account": ACCOUNT,
        "time": "2026-11-23T18:00:00Z",
        "region": REGION,
        "resources": resources,
        "detail": detail,
    }


WARNING = _event(
    "aws.ec2",
    "EC2 Spot Instance Interruption Warning",
    [f"arn:aws:ec2:us-east-1b:{ACCOUNT}:instance/i-1234567890abcdef0"],
    {"instance-id": "i-1234567890abcdef0", "instance-action": "terminate"},
)
REBALANCE = _event(
    "aws.ec2",
    "EC2 Instance Rebalance Recommendation",
    [f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-1234567890abcdef0"],
    {"instance-id": "i-1234567890abcdef0"},
)


def job_change(job_id: str, status: str = "RUNNABLE") -> dict[str, Any]:
    return _event(
        "aws.batch",
        "Batch Job State Change",
        [f"arn:aws:batch:us-east-1:{ACCOUNT}:job/{job_id}"],
        {
            "jobArn": f"arn:aws:batch:us-east-1:{ACCOUNT}:job/{job_id}",
            "jobName": "event-test",
            "jobId": job_id,
            "jobQueue": f"arn:aws:batch:us-east-1:{ACCOUNT}:job-queue/Q",
            "status": status,
            "attempts": [],
            "createdAt": 1641944200058,
            "retryStrategy": {"attempts": 2, "evaluateOnExit": []},
            "container": {"environment": [], "command": ["sleep", "600"]},
        },
    )


def training_job_change(name: str, **detail: Any) -> dict[str, Any]:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"
    return _event(
        "aws.sagemaker",
        "SageMaker Training Job State Change",
        [arn],
        {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Interrupted",
            "EnableManagedSpotTraining": True,
            **detail,
        },
    )


JOB_CHANGE = job_change("4c7599ae-0a82-49aa-ba5a-4727fcce14a8")
BLOCKED = {
    **JOB_CHANGE,
    "detail-type": "Batch Job Queue Blocked",
    "detail": {
        **JOB_CHANGE["detail"],
        "statusReason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for "
        "instance type [g5.xlarge]",
    },
}
SCHEDULED = _event("aws.events", "Scheduled Event", [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/sweep"], {})
