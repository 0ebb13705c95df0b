"""Event sources and detail types that rules select and handlers parse."""

from typing import Final

EC2_SOURCE: Final = "aws.ec2"
SPOT_INTERRUPTION_WARNING: Final = "EC2 Spot Instance Interruption Warning"
REBALANCE_RECOMMENDATION: Final = "EC2 Instance Rebalance Recommendation"

BATCH_SOURCE: Final = "aws.batch"
JOB_STATE_CHANGE: Final = "Batch Job State Change"
JOB_QUEUE_BLOCKED: Final = "Batch Job Queue Blocked"

SAGEMAKER_SOURCE: Final = "aws.sagemaker"
TRAINING_JOB_STATE_CHANGE: Final = "SageMaker Training Job State Change"

SCHEDULE_SOURCE: Final = "aws.events"
SCHEDULED_EVENT: Final = "Scheduled Event"

HOST_LOST_STATUS_REASON: Final = "Host EC2"
"""How `statusReason` begins when a job lost its host, whatever took the host away."""
