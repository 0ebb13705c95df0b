"""Binds the ports to AWS for a Lambda handler, once a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

import boto3

from spotkeeper.contract import environment_variables as variables
from spotkeeper.control.aws.batch import AWSBatch
from spotkeeper.control.aws.ledger import DynamoDBLedger


@dataclass(frozen=True, kw_only=True, slots=True)
class HandlerSettings:
    """What a handler needs to know of its environment."""

    ledger_table: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ValueError: naming every variable that is missing or empty.
        """
        names = {"ledger_table": variables.LEDGER_TABLE}
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
