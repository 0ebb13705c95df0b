"""Find an environment and connect to it: its descriptor, and a client of each service that is asked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore import exceptions as aws

from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.image_variant import IMAGE_VARIANTS
from spotkeeper.contract.local_endpoint import local_endpoint_file
from spotkeeper.contract.names import check_name, descriptor_parameter
from spotkeeper.control.aws.batch import SUBMIT_CONFIG, AWSBatch
from spotkeeper.control.aws.budgets import DynamoDBBudgets
from spotkeeper.control.aws.checkpoints import S3Checkpoints
from spotkeeper.control.aws.job_services import JobServices
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.aws.mirrors import S3Mirrors
from spotkeeper.control.aws.others import DynamoDBOthersJobs
from spotkeeper.control.aws.sweeps import DynamoDBSweeps
from spotkeeper.control.aws.training_jobs import SageMakerTraining
from spotkeeper.control.ports import Batch, Ports, UnknownRun
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.ops.failure import OperationError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalEndpoint:
    """A running emulation."""

    endpoint_url: str
    region: str
    environment: str

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Self:
        """Return the emulation that runs on this machine.

        Raises:
            OperationError: if none has said where it is.
        """
        path = local_endpoint_file(environ)
        try:
            told = json.loads(path.read_text())
            return cls(**{name: told[name] for name in ("endpoint_url", "region", "environment")})
        except FileNotFoundError:
            raise OperationError("no emulation is running: start one: `python -m emulation up`") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise OperationError(
                f"{path} is not what an emulation writes: start it again: `python -m emulation up`"
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A deployed environment, and the means to work with it."""

    descriptor: Descriptor
    ledger: DynamoDBLedger
    budgets: DynamoDBBudgets
    sweeps: DynamoDBSweeps
    others: DynamoDBOthersJobs
    batch: Batch
    """Jobs of AWS Batch and of SageMaker."""
    client: Callable[[str], Any]
    """Returns the client of a service, made when it is first asked for: that takes longer than most calls."""
    is_local: bool
    """Whether this is the emulation."""

    @property
    def batch_client(self) -> "BatchClient":
        """For job definitions; jobs go through `batch`."""
        return self.client("batch")  # type: ignore[no-any-return]

    @property
    def s3(self) -> "S3Client":
        """For source archives, data and checkpoints."""
        return self.client("s3")  # type: ignore[no-any-return]

    @property
    def logs(self) -> "CloudWatchLogsClient":
        """For what jobs wrote."""
        return self.client("logs")  # type: ignore[no-any-return]

    @property
    def sqs(self) -> "SQSClient":
        """For the queues of events."""
        return self.client("sqs")  # type: ignore[no-any-return]

    @property
    def cloudformation(self) -> "CloudFormationClient":
        """To find the queues of events, which nothing else needs to find."""
        return self.client("cloudformation")  # type: ignore[no-any-return]

    @property
    def ports(self) -> Ports:
        """What moving a run needs of the environment."""
        bucket = f"s3://{self.descriptor.checkpoint_bucket}"
        return Ports(
            ledger=self.ledger,
            budgets=self.budgets,
            batch=self.batch,
            checkpoints=S3Checkpoints(self.s3, bucket),
            mirrors=S3Mirrors(self.s3, bucket),
            terms=EnvironmentTerms.of(self.descriptor),
            others=self.others,
        )

    def run_of(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            UnknownRun: the ledger has none of this id.
        """
        run = self.ledger.get(run_id)
        if run is None:
            raise UnknownRun(run_id)
        return run


def connect(environment: str, *, region: str | None = None, local: LocalEndpoint | None = None) -> Connection:
    """Connect to a deployed environment by its descriptor.

    Args:
        environment: Its name, such as "dev".
        region: Where it is deployed; else the AWS settings of the shell tell.
        local: A running emulation instead of AWS.

    Raises:
        OperationError: if no such environment is deployed there, or the emulation is gone.
        ValueError: if the name is no name, or the descriptor is of another version.
    """
    parameter = descriptor_parameter(check_name("environment", environment))
    options: dict[str, Any] = {"region_name": region}
    if local is not None:
        options = {
            "endpoint_url": local.endpoint_url,
            "region_name": local.region,
            # The emulation takes any; the user's own must not be sent to it.
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local",
        }
    client: Callable[[str], Any] = cache(partial(boto3.client, **options))
    ssm = client("ssm")
    try:
        stored = ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    except (aws.ConnectionError, aws.HTTPClientError) as error:
        if local is None:
            raise
        # One that was killed could not take back its word that it is there.
        raise OperationError(
            f"the emulation at {local.endpoint_url} is gone, and its runs with it: start a new one: "
            "`python -m emulation up`"
        ) from error
    except aws.ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        deploy = f"deploy it: make deploy ENV={environment}" if local is None else f"it runs {local.environment!r}"
        where = "the emulation" if local is not None else f"region {ssm.meta.region_name} of this AWS account"
        raise OperationError(f"there is no environment {environment!r} in {where}: {deploy}") from error
    descriptor = Descriptor.from_json(stored)
    if local is not None:
        # Jobs are processes of this machine there: it is every image.
        image = f"000000000000.dkr.ecr.{local.region}.amazonaws.com/this-machine@sha256:{'0' * 64}"
        descriptor = replace(descriptor, trainer_images=dict.fromkeys(IMAGE_VARIANTS, image))
    dynamodb = client("dynamodb")
    return Connection(
        descriptor=descriptor,
        ledger=DynamoDBLedger(dynamodb, descriptor.ledger_table),
        budgets=DynamoDBBudgets(dynamodb, descriptor.ledger_table),
        sweeps=DynamoDBSweeps(dynamodb, descriptor.ledger_table),
        others=DynamoDBOthersJobs(dynamodb, descriptor.ledger_table),
        batch=_job_services(descriptor, client, options),
        client=client,
        is_local=local is not None,
    )


def _job_services(descriptor: Descriptor, client: Callable[[str], Any], options: Mapping[str, Any]) -> Batch:
    return JobServices(
        batch=AWSBatch(client("batch"), boto3.client("batch", **{**options, "config": SUBMIT_CONFIG})),
        sagemaker=cache(lambda: SageMakerTraining(client("sagemaker"), descriptor.environment)),
    )
