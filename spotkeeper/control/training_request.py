"""The request for a run's training job on SageMaker: a function of the run and of its profile's terms alone.

A run goes on in job after job, each with a name of its own and all with the same checkpoints; so every one of them is
asked for by this.
"""

from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags
from spotkeeper.contract.checkpoint_layout import MIRROR_PREFIX, mirror_prefix
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.local_disk import has_local_disk
from spotkeeper.contract.names import training_job_name
from spotkeeper.control.run import Run
from spotkeeper.control.terms import ProfileTerms, TrainingTerms
from spotkeeper.policy.placement import Market

CHECKPOINT_FOLDER: Final = "/opt/ml/checkpoints"
"""What SageMaker mirrors, where a container cannot reach S3 itself."""
SOURCE_CHANNEL: Final = "spotkeeper-source"
MOST_CHANNELS: Final = 20
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html, of InputDataConfig."""
LONGEST_CHANNEL_NAME: Final = 64
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_Channel.html"""
_CHANNELS_FOLDER: Final = "/opt/ml/input/data"
MAX_RUNTIME_SECONDS: Final = 28 * 86400
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html"""
WAIT_SECONDS: Final = 2 * 86400
"""What a spot job may wait in all, beside its run time. Spotkeeper gives a job without machine up long before; this
counts where the sweeper is not there, or neither another type nor on-demand is."""


def training_request(run: Run, *, profile: ProfileTerms) -> dict[str, Any]:
    """Return the parameters of CreateTrainingJob for the run's current submission.

    Args:
        run: The run; its `job_definition` is the image.
        profile: The terms of its profile, which must be one of SageMaker.

    Raises:
        ValueError: if the job's name is longer than SageMaker takes.
    """
    training = profile.training
    assert training is not None, f"profile {run.profile!r} is not one of SageMaker"
    bucket = f"s3://{training.checkpoint_bucket}"
    is_spot = run.market == Market.SPOT
    request: dict[str, Any] = {
        "TrainingJobName": training_job_name(run.environment, run.run_id, run.submission),
        "AlgorithmSpecification": {
            "TrainingImage": run.image or run.job_definition,
            "TrainingInputMode": "File",
            # Ours is process 1: SageMaker's own driver forwards no signal.
            "ContainerEntrypoint": list(ENTRY_POINT),
            "ContainerArguments": list(run.command),
        },
        "RoleArn": training.role_arn,
        # No run id has a dot: SageMaker copies what lies under the checkpoints' own prefix into the container.
        "OutputDataConfig": {"S3OutputPath": f"{bucket}/{MIRROR_PREFIX}{run.run_id}.output/"},
        "ResourceConfig": {**_machines(run, profile), "VolumeSizeInGB": training.volume_gb},
        "StoppingCondition": {"MaxRuntimeInSeconds": run.limit_seconds},
        "Environment": _environment(run, training),
        "Tags": [{"Key": key, "Value": value} for key, value in _tags(run).items()],
    }
    if is_spot:
        request["EnableManagedSpotTraining"] = True
        # "must be larger than" in the guide, ">=" in the API reference.
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = run.limit_seconds + WAIT_SECONDS
    if run.is_isolated:
        request["EnableNetworkIsolation"] = True
        request["CheckpointConfig"] = {"S3Uri": f"{bucket}/{mirror_prefix(run.run_id)}", "LocalPath": CHECKPOINT_FOLDER}
        if channels := _channels(run):
            request["InputDataConfig"] = channels
    if training.encrypts_between_nodes:
        request["EnableInterContainerTrafficEncryption"] = True
    if training.subnet_ids:
        request["VpcConfig"] = {
            "Subnets": list(training.subnet_ids),
            "SecurityGroupIds": list(training.security_group_ids),
        }
    if training.kms_key_arn is not None:
        request["OutputDataConfig"]["KmsKeyId"] = training.kms_key_arn
        # Types with a disk of their own take none: their hardware encrypts.
        if not any(has_local_disk(type_) for type_ in _types(request["ResourceConfig"])):
            request["ResourceConfig"]["VolumeKmsKeyId"] = training.kms_key_arn
    return request


def _machines(run: Run, profile: ProfileTerms) -> dict[str, Any]:
    if run.market == Market.SPOT:
        type_ = run.instance_type or profile.spot_instance_types[0]
        return {"InstanceType": type_, "InstanceCount": run.num_nodes}
    # Excludes InstanceType and EnableManagedSpotTraining. The first that has capacity wins.
    return {
        "InstancePreferences": [
            {"InstanceType": type_, "InstanceCount": run.num_nodes} for type_ in profile.on_demand_instance_types
        ]
    }


def _types(machines: dict[str, Any]) -> list[str]:
    return [one["InstanceType"] for one in machines.get("InstancePreferences", (machines,))]


def _environment(run: Run, training: TrainingTerms) -> dict[str, str]:
    own = {
        **(_without_channels(run) if run.is_isolated else run.variables),
        variables.ENVIRONMENT: run.environment,
        variables.RUN_ID: run.run_id,
        variables.SUBMISSION: str(run.submission),
        variables.ATTEMPT_SECONDS: str(run.limit_seconds),
        variables.QUEUE: run.job_queue,
        variables.TEAM: run.team,
    }
    if run.is_isolated:
        return {**own, variables.CHECKPOINT_URI: CHECKPOINT_FOLDER}
    return {
        **own,
        variables.CHECKPOINT_URI: f"s3://{training.checkpoint_bucket}",
        variables.LEDGER_TABLE: training.ledger_table,
    }


def _channels(run: Run) -> list[dict[str, Any]]:
    """Return what SageMaker brings into a container that cannot fetch it: the source, and each data set.

    A data set is a folder: all whose keys begin with the address come, and the role may list what its slash ends.
    """
    wanted = {
        name.removeprefix(variables.DATA_PREFIX).lower(): f"{uri.rstrip('/')}/" for name, uri in _data(run).items()
    }
    if (source := run.variables.get(variables.SOURCE_URI)) is not None:
        wanted[SOURCE_CHANNEL] = source
    return [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
            },
            "InputMode": "File",
        }
        for name, uri in wanted.items()
    ]


def _without_channels(run: Run) -> dict[str, str]:
    """Return the run's variables, with paths for what channels bring; those of data sets the trainer sets itself."""
    found = {name: value for name, value in run.variables.items() if name not in _data(run)}
    if (source := found.get(variables.SOURCE_URI)) is not None:
        found[variables.SOURCE_URI] = f"{_CHANNELS_FOLDER}/{SOURCE_CHANNEL}/{source.rpartition('/')[2]}"
    return found


def _data(run: Run) -> dict[str, str]:
    return {name: uri for name, uri in run.variables.items() if name.startswith(variables.DATA_PREFIX)}


def _tags(run: Run) -> dict[str, str]:
    return {
        tags.PROJECT: tags.PROJECT_VALUE,
        tags.ENVIRONMENT: run.environment,
        tags.TEAM: run.team,
        tags.PROFILE: run.profile,
        tags.MARKET: run.market,
        tags.RUN: run.run_id,
        **({tags.SWEEP: run.sweep} if run.sweep is not None else {}),
    }
