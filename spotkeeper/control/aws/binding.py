"""Binds the ports to AWS for a Lambda handler, once a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import Any, Final, Self

import boto3

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.names import environment_of
from spotkeeper.control.aws.batch import SUBMIT_CONFIG, AWSBatch
from spotkeeper.control.aws.budgets import DynamoDBBudgets
from spotkeeper.control.aws.checkpoints import S3Checkpoints
from spotkeeper.control.aws.client_config import HANDLER_CONFIG
from spotkeeper.control.aws.job_services import JobServices
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.aws.mirrors import S3Mirrors
from spotkeeper.control.aws.others import DynamoDBOthersJobs
from spotkeeper.control.aws.spot_prices import EC2SpotPrices
from spotkeeper.control.aws.training_client import training_client
from spotkeeper.control.aws.training_jobs import SageMakerTraining
from spotkeeper.control.ports import Ports
from spotkeeper.control.terms import EnvironmentTerms

TERMS_SECONDS: Final = 300
"""Caps and prices are read anew so often: a deployment changes the descriptor without restarting a function."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandlerSettings:
    """What a handler needs to know of its environment."""

    ledger_table: str
    checkpoint_uri: str
    descriptor_parameter: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ValueError: naming every variable that is missing or empty.
        """
        names = {
            "ledger_table": variables.LEDGER_TABLE,
            "checkpoint_uri": variables.CHECKPOINT_URI,
            "descriptor_parameter": variables.DESCRIPTOR_PARAMETER,
        }
        missing = [name for name in names.values() if not environ.get(name)]
        if missing:
            raise ValueError(f"environment variables missing or empty: {', '.join(missing)}")
        return cls(**{field: environ[name] for field, name in names.items()})


@cache
def _client(service: Any) -> Any:
    """Return the process's client of a service: making one takes longer than asking it."""
    return boto3.client(service, config=HANDLER_CONFIG)


@cache
def ledger() -> DynamoDBLedger:
    """Return the environment's ledger."""
    return DynamoDBLedger(_client("dynamodb"), HandlerSettings.from_environ(os.environ).ledger_table)


@cache
def batch() -> AWSBatch:
    """Return Batch, for reading and terminating."""
    return AWSBatch(_client("batch"))


@cache
def commits() -> S3Checkpoints:
    """Return what is known of the runs' checkpoints."""
    return S3Checkpoints(_client("s3"), HandlerSettings.from_environ(os.environ).checkpoint_uri)


@cache
def mirrors() -> S3Mirrors:
    """Return what has arrived of runs without network."""
    return S3Mirrors(_client("s3"), HandlerSettings.from_environ(os.environ).checkpoint_uri)


def environment() -> str:
    """Return the name of the environment, as the name of its descriptor tells it."""
    return environment_of(HandlerSettings.from_environ(os.environ).descriptor_parameter)


def ports() -> Ports:
    """Return everything that moving a run needs, submission included; its terms are minutes old at most."""
    return _ports(int(datetime.now(UTC).timestamp() // TERMS_SECONDS))


@lru_cache(maxsize=1)
def _ports(_period: int) -> Ports:
    settings = HandlerSettings.from_environ(os.environ)
    stored = _client("ssm").get_parameter(Name=settings.descriptor_parameter)
    described = Descriptor.from_json(stored["Parameter"]["Value"])
    return Ports(
        ledger=ledger(),
        budgets=DynamoDBBudgets(_client("dynamodb"), settings.ledger_table),
        batch=JobServices(batch=_batch_services(), sagemaker=_sagemaker),
        checkpoints=commits(),
        training_jobs=_sagemaker if described.training is not None else None,
        mirrors=mirrors(),
        terms=EnvironmentTerms.of(described),
        others=DynamoDBOthersJobs(_client("dynamodb"), settings.ledger_table),
        spot_prices=EC2SpotPrices(partial(_client, "ec2")),
    )


@cache
def _sagemaker() -> SageMakerTraining:
    return SageMakerTraining(training_client(HANDLER_CONFIG), environment())


@cache
def _batch_services() -> AWSBatch:
    return AWSBatch(_client("batch"), boto3.client("batch", config=HANDLER_CONFIG.merge(SUBMIT_CONFIG)))


def now() -> str:
    """Return the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
