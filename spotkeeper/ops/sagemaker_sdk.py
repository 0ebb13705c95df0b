"""For those who live in the SageMaker SDK: a `ModelTrainer` for a run, from the same request that boto3 is given.

    from spotkeeper.ops.sagemaker_sdk import model_trainer
    trainer = model_trainer(request)  # what `spotkeeper submit --on sagemaker --dry-run` prints
    trainer.train(wait=False)

The only module that imports `sagemaker`, a gigabyte that nothing else needs: in a checkout, and an environment of its
own, `pip install '.[sagemaker]'`.

The control plane takes such a job for the first submission of its run when it hears of it: from then on it is requeued,
moved to on-demand, and counted against caps as one that `spotkeeper submit` has sent (`control.training_adoption`).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

from pydantic import PrivateAttr
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.shapes import CheckpointConfig, InstancePreference, OutputDataConfig, StoppingCondition, Tag
from sagemaker.core.training.configs import Compute, Networking
from sagemaker.train import ModelTrainer

_VALIDATE_ROLE: Final = "SAGEMAKER_VALIDATE_ROLE"
_KNOWN: Final = frozenset(
    {
        "AlgorithmSpecification",
        "CheckpointConfig",
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "EnableNetworkIsolation",
        "Environment",
        "OutputDataConfig",
        "ResourceConfig",
        "RoleArn",
        "StoppingCondition",
        "Tags",
        "TrainingJobName",
        "VpcConfig",
    }
)
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "TrainingJobName": (),
    "RoleArn": (),
    "AlgorithmSpecification": ("TrainingImage", "TrainingInputMode", "ContainerEntrypoint", "ContainerArguments"),
    "ResourceConfig": ("VolumeSizeInGB",),
    "StoppingCondition": ("MaxRuntimeInSeconds",),
    "OutputDataConfig": ("S3OutputPath",),
    "Environment": (),
    "Tags": (),
}
_HOW_TO_GET_ONE: Final = (
    "give what `spotkeeper submit --on sagemaker --dry-run` prints, read by json.loads, or `request()` of a plan"
)


class RunTrainer(ModelTrainer):  # type: ignore[misc]  # The SDK has no types.
    """A `ModelTrainer` whose container starts our process 1, under the name of the run's submission.

    The SDK sets an entry point only together with SourceCode, and then its own, which forwards no SIGTERM; and it adds
    the time to a job's name, under which nobody finds it again. Everything else is the SDK's.
    """

    _name: str = PrivateAttr()
    _entrypoint: list[str] = PrivateAttr()
    _arguments: list[str] = PrivateAttr()

    def with_process(self, name: str, entrypoint: list[str], arguments: list[str]) -> Self:
        """Set the job's name and what its container runs, as the SDK's own `with_…` methods set what they do."""
        self._name, self._entrypoint, self._arguments = name, entrypoint, arguments
        return self

    def _create_training_job_args(self, input_data_config: Any = None, *, boto3: bool = False) -> dict[str, Any]:
        request: dict[str, Any] = super()._create_training_job_args(input_data_config=input_data_config, boto3=boto3)
        # It sends an empty mapping where there are none.
        hyperparameters = "HyperParameters" if boto3 else "hyper_parameters"
        if not request[hyperparameters]:
            del request[hyperparameters]
        if boto3:
            request["TrainingJobName"] = self._name
            request["AlgorithmSpecification"]["ContainerEntrypoint"] = self._entrypoint
            request["AlgorithmSpecification"]["ContainerArguments"] = self._arguments
        else:
            request["training_job_name"] = self._name
            request["algorithm_specification"].container_entrypoint = self._entrypoint
            request["algorithm_specification"].container_arguments = self._arguments
        return request


def model_trainer(request: Mapping[str, Any], *, sagemaker_session: Session | None = None) -> ModelTrainer:
    """Return the trainer whose `train()` sends this request; nothing is sent before.

    `sagemaker.train.aws_batch.training_queue.TrainingQueue(queue).submit(training_job=trainer, inputs=None, …)` sends
    it to the environment's queue of AWS Batch instead, where there is one. No run comes of that (see
    docs/batch-or-sagemaker.md), and whether spot works there, AWS documents nowhere.

    Args:
        request: Parameters of CreateTrainingJob, as `control.training_request` makes them. Each can be sent once:
            SageMaker never takes a name again.
        sagemaker_session: Of the SDK; None: its default.

    Raises:
        TypeError: if the request, or a part of it, is no dictionary where one is needed.
        ValueError: if the request is not whole, has parameters that this function does not pass on, or is for a spot
            job without waiting time, which the SDK would send and SageMaker refuse.
    """
    _check_whole(request)
    unknown = sorted(request.keys() - _KNOWN)
    if unknown:
        elsewhere = (
            "`spotkeeper submit`: a job with channels becomes no run, however it is sent by hand"
            if "InputDataConfig" in unknown
            else "send the request by boto3"
        )
        raise ValueError(
            f"the request has {', '.join(unknown)}, which would be lost on the way through the SDK: leave them out, or "
            f"{elsewhere}"
        )
    stopping = request["StoppingCondition"]
    is_spot = bool(request.get("EnableManagedSpotTraining"))
    if is_spot and stopping.get("MaxWaitTimeInSeconds", 0) <= stopping["MaxRuntimeInSeconds"]:
        raise ValueError(
            "a spot job needs MaxWaitTimeInSeconds above MaxRuntimeInSeconds, got "
            f"{stopping.get('MaxWaitTimeInSeconds')} and {stopping['MaxRuntimeInSeconds']}: raise the first"
        )
    algorithm, checkpoints = request["AlgorithmSpecification"], request.get("CheckpointConfig")
    with _without_judging_the_role():
        trainer = RunTrainer(
            sagemaker_session=sagemaker_session,
            role=request["RoleArn"],
            base_job_name=request["TrainingJobName"],
            training_image=algorithm["TrainingImage"],
            training_input_mode=algorithm["TrainingInputMode"],
            compute=_compute(request["ResourceConfig"], is_spot=is_spot),
            networking=_networking(request),
            stopping_condition=StoppingCondition(
                max_runtime_in_seconds=stopping["MaxRuntimeInSeconds"],
                **({"max_wait_time_in_seconds": stopping["MaxWaitTimeInSeconds"]} if is_spot else {}),
            ),
            output_data_config=OutputDataConfig(
                s3_output_path=request["OutputDataConfig"]["S3OutputPath"],
                **_named(request["OutputDataConfig"], kms_key_id="KmsKeyId"),
            ),
            checkpoint_config=CheckpointConfig(s3_uri=checkpoints["S3Uri"], local_path=checkpoints["LocalPath"])
            if checkpoints
            else None,
            environment=dict(request["Environment"]),
            tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in request["Tags"]],
        )
    return trainer.with_process(
        request["TrainingJobName"], list(algorithm["ContainerEntrypoint"]), list(algorithm["ContainerArguments"])
    )


def _check_whole(request: Any) -> None:
    """Refuse what is no request of ours before it fails in the middle of being read."""
    if not isinstance(request, Mapping):
        raise TypeError(
            "the request must be the parameters of CreateTrainingJob as a dictionary, got "
            f"{type(request).__name__}: {_HOW_TO_GET_ONE}"
        )
    missing: list[str] = []
    for name, parts in _NEEDED.items():
        given = request.get(name)
        if given is None:
            missing.append(name)
            continue
        if parts and not isinstance(given, Mapping):
            raise TypeError(f"{name} of the request must be a dictionary, got {given!r}: {_HOW_TO_GET_ONE}")
        if name == "ResourceConfig" and not given.get("InstancePreferences"):
            parts = ("InstanceType", "InstanceCount", *parts)
        missing.extend(f"{name}.{part}" for part in parts if given.get(part) is None)
    if missing:
        raise ValueError(f"the request has no {', '.join(missing)}, which a job of ours needs: {_HOW_TO_GET_ONE}")


@contextmanager
def _without_judging_the_role() -> Iterator[None]:
    """Keep the SDK's constructor from asking `iam:SimulatePrincipalPolicy` about the role, unless the user wants that.

    It refuses a role that may not make network interfaces, or that writes metrics under one namespace alone, whatever
    the job needs: the environment's role may do no more than its jobs do. The emulation cannot answer it either.
    """
    if _VALIDATE_ROLE in os.environ:
        yield
        return
    os.environ[_VALIDATE_ROLE] = "false"
    try:
        yield
    finally:
        del os.environ[_VALIDATE_ROLE]


def _compute(resources: Mapping[str, Any], *, is_spot: bool) -> Compute:
    preferences = resources.get("InstancePreferences")
    machines: dict[str, Any] = (
        {
            "instance_preferences": [
                InstancePreference(instance_type=each["InstanceType"], instance_count=each["InstanceCount"])
                for each in preferences
            ]
        }
        if preferences
        else {"instance_type": resources["InstanceType"], "instance_count": resources["InstanceCount"]}
    )
    return Compute(
        **machines,
        **_named(resources, volume_size_in_gb="VolumeSizeInGB", volume_kms_key_id="VolumeKmsKeyId"),
        enable_managed_spot_training=is_spot or None,
    )


def _networking(request: Mapping[str, Any]) -> Networking | None:
    settings = {
        **_named(request.get("VpcConfig", {}), subnets="Subnets", security_group_ids="SecurityGroupIds"),
        **_named(
            request,
            enable_network_isolation="EnableNetworkIsolation",
            enable_inter_container_traffic_encryption="EnableInterContainerTrafficEncryption",
        ),
    }
    return Networking(**settings) if settings else None


def _named(given: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return what is given, under the SDK's names; what is not stays the SDK's default."""
    return {ours: given[theirs] for ours, theirs in names.items() if theirs in given}
