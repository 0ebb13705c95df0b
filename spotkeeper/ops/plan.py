"""From what the user asks to what will be sent: every rule of `submit`, and no effect.

Refusals name the rule, the value given, the values allowed and the fix.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.checkpoint_layout import source_key
from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.duration import format_duration
from spotkeeper.contract.image_variant import image_variant
from spotkeeper.contract.names import check_name, check_run_id
from spotkeeper.control.priority import check_priority
from spotkeeper.control.run import Run
from spotkeeper.control.submit import request_of
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.ops import deadline, job_definition, spending, training_place
from spotkeeper.ops.command import Program
from spotkeeper.ops.deadline import Deadline
from spotkeeper.ops.secret_scan import looks_secret, secret_in_command
from spotkeeper.ops.source import PackedSource
from spotkeeper.ops.source_rules import IGNORE_FILE
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.training_place import BATCH, SAGEMAKER

MAX_LOST_SECONDS: Final = 60 * 60
MIN_ATTEMPT_SECONDS: Final = 60
"""AWS Batch takes no shorter time-out."""
DEFAULT_ATTEMPT_SECONDS: Final = 24 * 3600
MAX_REQUEST_BYTES: Final = 30 * 1024
"""AWS Batch's limit on a SubmitJob request."""

_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")
NOTICE_SIGNALS: Final = ("TERM", "INT", "USR1", "USR2")
RESERVED: Final = ("AWS_BATCH", "SPOTKEEPER")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user asks for."""

    command: tuple[str, ...]
    name: str | None = None
    """Begins the run id; taken from the command where absent."""
    team: str | None = None
    """May be absent where the environment has one team."""
    priority: int | None = None
    """Among the runs of the team."""
    service: str = BATCH
    """`batch` or `sagemaker`."""
    num_nodes: int = 1
    """Machines that train together; more than one on SageMaker alone."""
    profile: str | None = None
    image: str | None = None
    """`repository@sha256:…` instead of the environment's trainer image."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name -> `s3://bucket/prefix`."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Environment variable -> Secrets Manager ARN."""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    without_source: bool = False
    """The user says that the trainer image has all that the command needs."""
    requirements: str | None = None
    """A pip requirements file, as a path inside the source folder."""
    checkpoint_folder: str | None = None
    """Folder, in the working directory, into which the program saves by itself; spotkeeper-exec commits it."""
    notice_signal: str | None = None
    """What such a program is sent when its host is taken: TERM, INT, USR1 or USR2; TERM by default."""
    max_lost_seconds: int | None = None
    """Longest time between two checkpoints, 1 second to 1 hour, instead of what the program's code says."""
    attempt_seconds: int | None = None
    """Longest time of one attempt; by default a day, or the environment's maximum if that is less."""
    progress_seconds: int | None = None
    spending: Spending = field(default_factory=Spending)
    deadline: Deadline | None = None
    force: bool = False
    """Accept values that look like secrets."""

    def __post_init__(self) -> None:
        """Refuse a command in one string: its letters would be taken for words.

        Raises:
            TypeError: naming what is wanted instead.
        """
        command: object = self.command  # of whoever has no type checker
        if isinstance(command, str):
            # Never what was given: it may hold a secret.
            raise TypeError(
                'the command must be a tuple of words, such as ("python", "train.py"), got one string: split it, as '
                "tuple(shlex.split(…)) does"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What will be sent."""

    run: Run
    definition: Mapping[str, Any] | None
    """RegisterJobDefinition request, where image or secrets need a definition of their own. Until it is registered,
    `run.job_definition` holds its name."""
    source: PackedSource | None
    terms: EnvironmentTerms
    """Of the environment: what a training job is made of, beside what the run says."""
    warnings: tuple[str, ...] = ()
    """For the user, who may want to change the request."""

    def request(self) -> dict[str, Any]:
        """Return the SubmitJob request, or that of CreateTrainingJob."""
        return request_of(self.run, self.terms)


def plan(
    request: Request,
    *,
    descriptor: Descriptor,
    base_definition: Mapping[str, Any] | None,
    source: PackedSource | None,
    suffix: str,
    created_at: str,
) -> Plan:
    """Check a request and return what will be sent for it.

    Args:
        request: What the user asks for.
        descriptor: The environment.
        base_definition: The profile's job definition; needed where `needs_definition` says so.
        source: The packed source folder, if there is one.
        suffix: Makes the run id unique; a few random hexadecimal digits.
        created_at: Now, ISO 8601, UTC.

    Raises:
        ValueError: if the request breaks a rule.
    """
    # Options first: what is wrong with a word of the command line is seen there, and needs no folder to be right.
    training_place.check_service(request)
    profile_name = profile_of(request, descriptor)
    is_isolated = training_place.is_isolated(request, descriptor)
    _check_image(request.image)
    _check_variables(request)
    _check_grants(request, descriptor)
    _check_command(request, source)
    if request.service == BATCH:
        _check_trainer_image(request, profile_name, descriptor)
    terms = EnvironmentTerms.of(descriptor)
    spending.check(request.spending, profile=profile_name, terms=terms)
    run_variables = {
        **request.environment_variables,
        **_source_variables(request, descriptor, source),
        **{variables.DATA_PREFIX + name.upper(): uri for name, uri in request.data.items()},
    }
    run_variables |= _folder_variables(request)
    if request.max_lost_seconds is not None:
        run_variables[variables.MAX_LOST_SECONDS] = str(_check_max_lost(request.max_lost_seconds))
    if request.progress_seconds is not None:
        run_variables[variables.PROGRESS_SECONDS] = str(_check_progress(request.progress_seconds))
    definition = None
    if needs_definition(request):
        assert base_definition is not None
        definition = job_definition.derive(base_definition, image=request.image, secrets=request.secrets)
    name = check_name("--name", request.name) if request.name is not None else _name_of(request.command)
    run = Run(
        run_id=check_run_id(f"{name}-{suffix}"),
        created_at=created_at,
        environment=descriptor.environment,
        team=_team_of(request, descriptor),
        profile=profile_name,
        market="spot",
        job_queue=terms.profiles[profile_name].spot_queue,
        job_definition=definition["jobDefinitionName"] if definition else _made_of(request, profile_name, descriptor),
        command=request.command,
        variables=run_variables,
        attempt_seconds=_check_attempt(request.attempt_seconds, descriptor.max_attempt_seconds),
        num_nodes=request.num_nodes,
        is_isolated=is_isolated,
        priority=check_priority(request.priority) if request.priority is not None else None,
        image=request.image,
        source_sha256=source.sha256 if source else None,
        mode=request.spending.mode.value,
        fallback_cap_microusd=request.spending.fallback_cap_microusd,
        total_cap_microusd=request.spending.total_cap_microusd,
        deadline_at=request.deadline.at(created_at) if request.deadline else None,
        work_seconds=request.deadline.work_seconds if request.deadline else None,
        num_steps=request.deadline.num_steps if request.deadline else None,
        sweep=request.spending.sweep,
        sweep_fallback_cap_microusd=request.spending.sweep_fallback_cap_microusd,
        sweep_total_cap_microusd=request.spending.sweep_total_cap_microusd,
    )
    if request.service == SAGEMAKER:
        training_place.check_run(run)
    deadline.check(run)
    warnings = (*spending.warnings(run, terms), *deadline.warnings(run))
    made = Plan(run=run, definition=definition, source=source, warnings=warnings, terms=terms)
    if request.service == BATCH:
        check_size(made.request())
    return made


def needs_definition(request: Request) -> bool:
    """Whether the profile's job definition cannot be used as it is; SageMaker has none."""
    if request.service == SAGEMAKER:
        return False
    return request.image is not None or bool(request.secrets)


def profile_of(request: Request, descriptor: Descriptor) -> str:
    """Return the name of the request's profile.

    Raises:
        ValueError: if the environment has no such profile.
    """
    if request.service == SAGEMAKER:
        return training_place.profile_name_of(request, descriptor)
    name = request.profile or descriptor.default_profile
    if name not in descriptor.profiles:
        known = ", ".join(sorted(descriptor.profiles))
        if descriptor.training is not None and name in descriptor.training.profiles:
            raise ValueError(
                f"--profile {name!r} is one of SageMaker: `submit --on sagemaker` takes it (a sweep is an array job, "
                "which SageMaker has not: submit its runs one by one, with --sweep NAME); on AWS Batch give one of "
                f"{known}"
            )
        raise ValueError(f"--profile must be one of {known} in environment {descriptor.environment!r}, got {name!r}")
    return name


def _made_of(request: Request, profile: str, descriptor: Descriptor) -> str:
    """Return the profile's job definition, or on SageMaker the image, which stands in its place."""
    if request.service == SAGEMAKER:
        return training_place.image_of(request, profile, descriptor)
    return descriptor.profiles[profile].job_definition


def _team_of(request: Request, descriptor: Descriptor) -> str:
    known = ", ".join(descriptor.teams)
    if request.team is None:
        if len(descriptor.teams) != 1:
            raise ValueError(f"--team is needed in environment {descriptor.environment!r}: one of {known}")
        return descriptor.teams[0]
    if request.team not in descriptor.teams:
        raise ValueError(
            f"--team must be one of {known} in environment {descriptor.environment!r}, got {request.team!r}"
        )
    return request.team


def _check_command(request: Request, source: PackedSource | None) -> None:
    if not request.command or not request.command[0].strip():
        raise ValueError("a command is needed: spotkeeper submit [options] -- python train.py …")
    if not request.force:
        reason = secret_in_command(request.command)
        if reason is not None:
            raise ValueError(
                f"the command contains {reason}, and everybody who may read the job can read it: use --secret NAME=arn "
                "(or --force if it is none)"
            )
    program = Program.of(request.command)
    if source is None:
        _check_absent_source(request, program)
    elif program.script is not None and program.script not in source.files:
        left_out = next((path for path in source.left_out if _is_within(program.script, path)), None)
        why = f"is left out of the source folder as {left_out!r}" if left_out else "is not in the source folder"
        fix = f"re-include it in {IGNORE_FILE} with !" if left_out else "paths start at --source"
        raise ValueError(f"the command names {program.script!r}, which {why} ({fix})")


def _check_absent_source(request: Request, program: Program) -> None:
    if request.image is not None or program.is_inline or program.module is not None:
        return
    if program.script is not None:
        raise ValueError(f"the command names {program.script!r}, but no source is sent: give its folder with --source")
    if not request.without_source:
        raise ValueError(
            f"what {request.command[0]!r} needs is not told by the command: give its folder with --source, or "
            "--no-source if the trainer image has all of it"
        )


def _is_within(path: str, left_out: str) -> bool:
    return path == left_out or (left_out.endswith("/") and path.startswith(left_out))


def _name_of(command: tuple[str, ...]) -> str:
    stem = PurePosixPath(_told_name(command)).stem.lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].rstrip("-")
    return name if name and name[0].isalpha() else "run"


def _told_name(command: tuple[str, ...]) -> str:
    program = Program.of(command)
    return program.script or (program.module or "").rpartition(".")[2] or command[0]


def _check_image(image: str | None) -> None:
    if image is not None and not _IMAGE.fullmatch(image):
        raise ValueError(
            f"--image must be repository@sha256:<64 hex digits>, got {image!r}: a tag can point elsewhere when the run "
            "resumes. The digest of a pushed image: docker inspect --format '{{index .RepoDigests 0}}' IMAGE"
        )


def _check_trainer_image(request: Request, profile: str, descriptor: Descriptor) -> None:
    variant = image_variant(descriptor.profiles[profile].gpus)
    if request.image is None and variant not in descriptor.trainer_images:
        raise ValueError(training_place.without_image(descriptor.environment, variant, profile))


def _check_variables(request: Request) -> None:
    for option, given in (
        ("--env", request.environment_variables),
        ("--secret", request.secrets),
        ("--data", request.data),
    ):
        for name in given:
            if not VARIABLE.fullmatch(name):
                raise ValueError(
                    f"{option}: a name must be letters, digits and _, not starting with a digit; got {name!r}"
                )
            if option != "--data" and name.upper().startswith(RESERVED):
                raise ValueError(f"{option}: names beginning with {' and '.join(RESERVED)} are reserved; got {name!r}")
    upper = [name.upper() for name in request.data]
    for name in request.data:
        if upper.count(name.upper()) > 1:
            raise ValueError(
                f"--data {name}: two names give the variable {variables.DATA_PREFIX}{name.upper()}; choose other names"
            )
    both = sorted(set(request.environment_variables) & set(request.secrets))
    if both:
        raise ValueError(f"given with --env and with --secret: {', '.join(both)}: choose one")
    for name, value in request.environment_variables.items():
        reason = None if request.force else looks_secret(name, value)
        if reason is not None:
            shown = f"--env {name} looks like a secret ({reason}), and AWS shows variables to every reader of the job"
            instead = (
                "let the program read Secrets Manager itself"
                if request.service == SAGEMAKER
                else f"use --secret {name}=arn:aws:secretsmanager:…"
            )
            raise ValueError(f"{shown}: {instead} (or --force if it is none)")


def _check_grants(request: Request, descriptor: Descriptor) -> None:
    for name, uri in request.data.items():
        if not _S3_URI.fullmatch(uri):
            raise ValueError(f"--data {name} must be s3://bucket/prefix, got {uri!r}")
        if not any(f"{uri.rstrip('/')}/".startswith(prefix) for prefix in descriptor.data_prefixes):
            raise ValueError(
                f"--data {name}: jobs of environment {descriptor.environment!r} may not read {uri!r}; they may read: "
                f"{', '.join(descriptor.data_prefixes) or 'nothing'}. To allow more, add to data_prefixes in "
                "stacks/environments.py and deploy"
            )
    for name, arn in request.secrets.items():
        # A key of a JSON secret is chosen with arn:…:secret:name-AbCdEf:key::
        if not any(arn == allowed or arn.startswith(f"{allowed}:") for allowed in descriptor.secret_arns):
            raise ValueError(
                # Never what was typed: it may be the secret itself.
                f"--secret {name} must be the ARN of a secret that jobs of environment {descriptor.environment!r} may "
                f"be given, and the {len(arn)} characters after = are none. They may be given: "
                f"{', '.join(descriptor.secret_arns) or 'nothing'}. To allow more, add to secret_arns in "
                "stacks/environments.py and deploy"
            )


def _source_variables(request: Request, descriptor: Descriptor, source: PackedSource | None) -> dict[str, str]:
    if source is None:
        if request.requirements is not None:
            raise ValueError("--requirements names a file of the source folder: give --source too")
        return {}
    found = {
        variables.SOURCE_URI: f"s3://{descriptor.checkpoint_bucket}/{source_key(source.sha256)}",
        variables.SOURCE_SHA256: source.sha256,
    }
    if request.requirements is not None:
        path = PurePosixPath(request.requirements).as_posix()
        if path not in source.files:
            raise ValueError(f"--requirements must be a file inside the source folder, got {request.requirements!r}")
        found[variables.REQUIREMENTS_FILE] = path
    return found


def _folder_variables(request: Request) -> dict[str, str]:
    folder, number = request.checkpoint_folder, request.notice_signal
    if folder is None:
        if number is not None:
            raise ValueError("--notice-signal is for programs that save into a --checkpoint-folder: give that too")
        return {}
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"--checkpoint-folder must be a folder inside the program's working directory, got {folder!r}")
    if request.max_lost_seconds is not None:
        raise ValueError(
            "--max-lost is for programs that use the library; with --checkpoint-folder the program itself decides how "
            "often it saves: set that in the program"
        )
    found = {variables.CHECKPOINT_FOLDER: path.as_posix()}
    if number is not None:
        if number not in NOTICE_SIGNALS:
            raise ValueError(f"--notice-signal must be one of {', '.join(NOTICE_SIGNALS)}, got {number!r}")
        found[variables.NOTICE_SIGNAL] = number
    return found


def _check_max_lost(seconds: int) -> int:
    if not 1 <= seconds <= MAX_LOST_SECONDS:
        raise ValueError(f"--max-lost must be 1s to {format_duration(MAX_LOST_SECONDS)}, got {seconds}s")
    return seconds


def _check_progress(seconds: int) -> int:
    if seconds < 1:
        raise ValueError(f"--progress-seconds must be at least 1, got {seconds}")
    return seconds


def _check_attempt(seconds: int | None, longest: int) -> int:
    if seconds is None:
        return min(DEFAULT_ATTEMPT_SECONDS, longest)
    if not MIN_ATTEMPT_SECONDS <= seconds <= longest:
        raise ValueError(
            f"--time-limit must be {format_duration(MIN_ATTEMPT_SECONDS)} to {format_duration(longest)} "
            f"(max_attempt_seconds in stacks/environments.py), got {format_duration(seconds)}"
        )
    return seconds


def check_size(request: Mapping[str, Any]) -> None:
    """Refuse a SubmitJob request that is larger than AWS Batch takes.

    Raises:
        ValueError: naming the size, the limit and the fix.
    """
    size_bytes = len(json.dumps(request).encode())
    if size_bytes > MAX_REQUEST_BYTES:
        raise ValueError(
            f"command and variables make a request of {size_bytes} bytes; AWS Batch takes {MAX_REQUEST_BYTES}: "
            "put long values into a file of the source folder"
        )
