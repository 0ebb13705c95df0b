"""Binds the ports to AWS for a Lambda handler, once a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Self

import boto3

from spotkeeper.contract import environment_variables as variables
from spotkeeper.control.aws.batch import SUBMIT_CONFIG, AWSBatch
from spotkeeper.control.aws.checkpoints import S3Checkpoints
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.ports import Ports


@dataclass(frozen=True, kw_only=True, slots=True)
class HandlerSettings:
    """What a handler needs to know of its environment."""

    ledger_table: str
    checkpoint_uri: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ValueError: naming every variable that is missing or empty.
        """
        names = {"ledger_table": variables.LEDGER_TABLE, "checkpoint_uri": variables.CHECKPOINT_URI}
        missing = [name for name in names.values() if not environ.get(name)]
        if missing:
            raise ValueError(f"environment variables missing or empty: {', '.join(missing)}")
        return cls(**{field: environ[name] for field, name in names.items()})


@cache
def ledger() -> DynamoDBLedger:
    """Return the environment's ledger."""
    return DynamoDBLedger(boto3.client("dynamodb"), HandlerSettings.from_environ(os.environ).ledger_table)


@cache
def batch() -> AWSBatch:
    """Return Batch, for reading and terminating."""
    return AWSBatch(boto3.client("batch"))


@cache
def ports() -> Ports:
    """Return everything that moving a run needs, submission included."""
    settings = HandlerSettings.from_environ(os.environ)
    return Ports(
        ledger=ledger(),
        batch=AWSBatch(boto3.client("batch"), boto3.client("batch", config=SUBMIT_CONFIG)),
        checkpoints=S3Checkpoints(boto3.client("s3"), settings.checkpoint_uri),
    )


def now() -> str:
    """Return the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
