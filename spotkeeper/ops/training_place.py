"""Where a run goes that is submitted `--on sagemaker`, and what is refused there, before it costs anything."""

from typing import TYPE_CHECKING, Final

from spotkeeper.contract.descriptor import Descriptor, Training
from spotkeeper.contract.names import training_job_name
from spotkeeper.control.priority import NO_QUEUE
from spotkeeper.control.run import Run
from spotkeeper.control.training_request import (
    LONGEST_CHANNEL_NAME,
    MAX_RUNTIME_SECONDS,
    MOST_CHANNELS,
    WAIT_SECONDS,
)

if TYPE_CHECKING:
    from spotkeeper.ops.plan import Request

BATCH: Final = "batch"
SAGEMAKER: Final = "sagemaker"
SERVICES: Final = (BATCH, SAGEMAKER)
MAX_NODES: Final = 100
"""Beyond this a cluster needs more than this package does for it; SageMaker's own quota is lower by default."""
_MAX_ARGUMENTS: Final = 100
_MAX_ARGUMENT_LENGTH: Final = 256
_MAX_VARIABLES: Final = 100
_MAX_VARIABLE_LENGTH: Final = 512
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html, of arguments and of Environment."""


def check_service(request: "Request") -> None:
    """Refuse what the chosen service cannot do.

    Raises:
        ValueError: naming the option, the value and what to do instead.
    """
    if request.service not in SERVICES:
        raise ValueError(f"--on must be one of {', '.join(SERVICES)}, got {request.service!r}")
    if not 1 <= request.num_nodes <= MAX_NODES:
        raise ValueError(f"--nodes must be 1 to {MAX_NODES}, got {request.num_nodes}")
    if request.service == BATCH:
        if request.num_nodes > 1:
            raise ValueError(
                f"--nodes {request.num_nodes}: on AWS Batch a run has one machine, because a group of spot hosts fails "
                "as often as any of them: take a machine with more GPUs (--profile), or --on sagemaker"
            )
        return
    if request.num_nodes > 1 and request.checkpoint_folder is not None:
        raise ValueError(
            f"--checkpoint-folder with --nodes {request.num_nodes}: each node would save a folder of its own, and none "
            "of them is the run's: use the library (import spotkeeper), whose nodes save one checkpoint together"
        )
    if request.secrets:
        raise ValueError(
            "--secret: SageMaker has no way to inject secrets, and shows variables to every reader of the job: let the "
            "program read Secrets Manager itself, or submit to AWS Batch"
        )
    if request.priority is not None:
        raise ValueError(f"--priority: {NO_QUEUE}; leave it out")


def training_of(descriptor: Descriptor) -> Training:
    """Return what the environment has on SageMaker.

    Raises:
        ValueError: if it has nothing there.
    """
    training = descriptor.training
    if training is None:
        raise ValueError(
            f"environment {descriptor.environment!r} runs nothing on SageMaker: give it `training` in "
            "stacks/environments.py and deploy, or submit to AWS Batch (leave out --on)"
        )
    return training


def is_isolated(request: "Request", descriptor: Descriptor) -> bool:
    """Tell whether the containers of a run of this request will reach no network.

    Raises:
        ValueError: if it asks for what only a network can bring.
    """
    if request.service == BATCH or not training_of(descriptor).is_isolated:
        return False
    because = f"environment {descriptor.environment!r} isolates training jobs from the network"
    if request.num_nodes > 1:
        raise ValueError(
            f"--nodes {request.num_nodes}: {because}, and nodes that reach no ledger cannot agree on one attempt: "
            "leave it out, or set is_isolated=False and bound the network by a VPC instead"
        )
    if request.requirements is not None:
        raise ValueError(
            f"--requirements: {because}, so pip cannot reach an index: build an image, and give it by --image"
        )
    if len(request.data) >= MOST_CHANNELS:
        raise ValueError(
            f"--data is given {len(request.data)} times: {because}, so SageMaker brings each as a channel, of which it "
            f"takes {MOST_CHANNELS - 1} beside the source"
        )
    for name in request.data:
        if len(name) > LONGEST_CHANNEL_NAME:
            raise ValueError(
                f"--data {name}: {because}, so SageMaker brings it as a channel, whose name may have "
                f"{LONGEST_CHANNEL_NAME} characters, and it has {len(name)}: choose a shorter name"
            )
    return True


def profile_name_of(request: "Request", descriptor: Descriptor) -> str:
    """Return the name of the request's profile on SageMaker.

    Raises:
        ValueError: if the environment has no such profile there.
    """
    training = training_of(descriptor)
    name = request.profile or training.default_profile
    if name not in training.profiles:
        known = ", ".join(sorted(training.profiles))
        raise ValueError(
            f"--profile must be one of {known} on SageMaker in environment {descriptor.environment!r}, got {name!r}"
        )
    return name


def image_of(request: "Request", profile: str, descriptor: Descriptor) -> str:
    """Return the image that the run's training jobs run, by digest.

    Raises:
        ValueError: if the environment has none of the profile's variant, and the user gives none.
    """
    variant = training_of(descriptor).profiles[profile].image_variant
    image = request.image or descriptor.trainer_images.get(variant)
    if image is None:
        raise ValueError(without_image(descriptor.environment, variant, profile))
    return image


def without_image(environment: str, variant: str, profile: str) -> str:
    """Return what to tell who submits to a profile whose image was never built."""
    return (
        f"environment {environment!r} has no {variant} image yet, which profile {profile!r} runs: `make image "
        f"ENV={environment} VARIANT={variant}` builds one and says where to set it; or give an image of your own with "
        "--image"
    )


def lost_by_hand(run: Run, *, has_source: bool) -> tuple[str, ...]:
    """Return what the run of this request would be without, were it sent by the SDK or boto3; empty: nothing.

    A request holds what a container is told. Caps, deadline and sweep stand in the ledger, into which `submit` writes.
    """
    if run.is_isolated:
        return ("sent by the SDK or boto3, the job becomes no run: without network only `spotkeeper submit` makes one",)
    lost = [
        name
        for name, is_given in (
            ("--fallback-cap", run.fallback_cap_microusd > 0),
            ("--total-cap", run.total_cap_microusd is not None),
            ("--deadline", run.deadline_at is not None),
            ("--sweep", run.sweep is not None),
        )
        if is_given
    ]
    told = []
    if lost:
        told.append(
            f"a request holds no {', '.join(lost)}: sent by the SDK or boto3, its run has none; "
            "`spotkeeper budget set` gives caps to a run that is there"
        )
    if has_source:
        told.append(
            "sent by the SDK or boto3, the job finds its source only if that was uploaded before: by `bring` of "
            "spotkeeper.ops.submission, or a submission of the same files"
        )
    return tuple(told)


def check_run(run: Run) -> None:
    """Refuse a run of which SageMaker would refuse a job, now or later.

    Raises:
        ValueError: naming the value, the limit and the fix.
    """
    # The number of a submission may grow to four digits.
    training_job_name(run.environment, run.run_id, 9999)
    longest = MAX_RUNTIME_SECONDS - WAIT_SECONDS
    if run.attempt_seconds > longest:
        raise ValueError(
            f"--time-limit must be at most {longest // 86400} days on SageMaker, got {run.attempt_seconds} seconds"
        )
    if len(run.command) > _MAX_ARGUMENTS:
        raise ValueError(
            f"the command has {len(run.command)} words, and SageMaker takes {_MAX_ARGUMENTS}: put values into a file "
            "of the source folder"
        )
    for place, word in enumerate(run.command, start=1):
        if len(word) > _MAX_ARGUMENT_LENGTH:
            raise ValueError(
                f"word {place} of the command has {len(word)} characters, and SageMaker "
                f"takes {_MAX_ARGUMENT_LENGTH}: put long values into a file of the source folder"
            )
    if any("\n" in word for word in run.command):
        raise ValueError("the command: SageMaker takes no line breaks in a word; put the program into a file")
    if len(run.variables) > _MAX_VARIABLES - 8:
        raise ValueError(f"--env, --data: SageMaker takes {_MAX_VARIABLES} variables, with those that are added")
    for name, value in run.variables.items():
        if len(value) > _MAX_VARIABLE_LENGTH:
            raise ValueError(
                f"variable {name} has {len(value)} characters, and SageMaker takes {_MAX_VARIABLE_LENGTH}: put it into "
                "a file of the source folder"
            )
