"""Names of the environment variables that connect stacks, submit, Lambda handlers and trainer.

Batch publishes a job's environment in every state-change event: none of these may ever carry a secret.
"""

from typing import Final

# Set by the job definition, the same for every run of an environment.
LEDGER_TABLE: Final = "SPOTKEEPER_LEDGER_TABLE"
"""DynamoDB table name of the ledger. Without it (a laptop) manifests alone fence."""

CHECKPOINT_URI: Final = "SPOTKEEPER_URI"
"""Root of the checkpoint tree: `s3://bucket[/prefix]` or a local folder."""

ENVIRONMENT: Final = "SPOTKEEPER_ENV"
"""Name of the environment. The command line takes its default from the same variable."""

# Set for the Lambda handlers of an environment.
DESCRIPTOR_PARAMETER: Final = "SPOTKEEPER_DESCRIPTOR"
"""Name of the SSM parameter that holds the environment's descriptor."""

# Set by submit, for one run.
RUN_ID: Final = "SPOTKEEPER_RUN_ID"
SUBMISSION: Final = "SPOTKEEPER_SUBMISSION"
"""Number, from 1, of the Batch job that was submitted for the run."""
TEAM: Final = "SPOTKEEPER_TEAM"
"""On SageMaker, whose jobs have no share identifier: whose caps the run counts against."""
QUEUE: Final = "SPOTKEEPER_QUEUE"
"""On SageMaker, which has no queues: what stands for profile and market (see contract.training)."""
SWEEP: Final = "SPOTKEEPER_SWEEP"
"""In an array job instead of RUN_ID, since all its children share one environment: the sweep whose members they are."""
SOURCE_URI: Final = "SPOTKEEPER_SOURCE_URI"
"""`s3://…/<sha256>.tar.gz`: the program's source, unpacked into the working directory."""
SOURCE_SHA256: Final = "SPOTKEEPER_SOURCE_SHA256"
REQUIREMENTS_FILE: Final = "SPOTKEEPER_REQUIREMENTS_FILE"
"""Path inside the source folder of a pip requirements file to install before the program starts."""
MAX_LOST_SECONDS: Final = "SPOTKEEPER_MAX_LOST_SECONDS"
"""Upper bound on the time between two periodic checkpoints."""
CHECKPOINT_FOLDER: Final = "SPOTKEEPER_CHECKPOINT_FOLDER"
"""Folder, relative to the working directory, into which the program saves by itself: `spotkeeper-exec` commits it."""
NOTICE_SIGNAL: Final = "SPOTKEEPER_NOTICE_SIGNAL"
"""Signal that such a program is sent when EC2 takes the host: TERM, INT, USR1 or USR2."""
PROGRESS_SECONDS: Final = "SPOTKEEPER_PROGRESS_SECONDS"
"""Time between two progress lines in the log."""
ATTEMPT_SECONDS: Final = "SPOTKEEPER_ATTEMPT_SECONDS"
"""Batch ends the attempt this many seconds after it started; `spotkeeper-exec` lets the program save before."""
STANDBY_AGE_SECONDS: Final = "SPOTKEEPER_STANDBY_AGE_SECONDS"
"""How long a standby must have had its machine before it asks for its run."""
STANDBY_PATIENCE_SECONDS: Final = "SPOTKEEPER_STANDBY_PATIENCE_SECONDS"
"""How long a standby that has asked waits for its run before it gives up."""
DATA_PREFIX: Final = "SPOTKEEPER_DATA_"
"""`SPOTKEEPER_DATA_<NAME>=s3://…` for each `--data NAME=s3://…`."""

# Set by `spotkeeper-exec` for the program that it starts.
EPOCH: Final = "SPOTKEEPER_EPOCH"
"""The fencing number that this attempt's claim was given."""
OUTCOME_FILE: Final = "SPOTKEEPER_OUTCOME_FILE"
"""Where the library tells `spotkeeper-exec` how the program ended (see contract.outcome)."""

# Set by AWS Batch: docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
BATCH_JOB_ID: Final = "AWS_BATCH_JOB_ID"
BATCH_JOB_ATTEMPT: Final = "AWS_BATCH_JOB_ATTEMPT"
BATCH_ARRAY_INDEX: Final = "AWS_BATCH_JOB_ARRAY_INDEX"
"""From 0; only children of an array job have it."""

# Set by SageMaker AI: docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
SAGEMAKER_JOB: Final = "TRAINING_JOB_NAME"
TRAINING_JOB_ARN: Final = "TRAINING_JOB_ARN"
"""The job's id in the ledger. SageMaker restarts the same job, and tells no attempt number."""
SAGEMAKER_BASE: Final = "SAGEMAKER_BASE_DIR"
"""The folder that is /opt/ml where nobody says otherwise."""

IMDS_ENDPOINT: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""botocore's name for the address of the instance metadata service."""
