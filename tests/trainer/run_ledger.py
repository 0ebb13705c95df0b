"""A ledger on this machine with one run in it, and a test in the part of the control plane."""

import time
from typing import Any

import boto3
from mypy_boto3_dynamodb import DynamoDBClient

from spotkeeper.contract.ledger import RUN_SORT_KEY, run_partition

JOB = "6f2f1f1e-0000-4000-8000-000000000001"
STANDBY_JOB = "6f2f1f1e-0000-4000-8000-000000000002"


class RunLedger:
    """A ledger table with one run that has been submitted."""

    def __init__(self, name: str) -> None:
        self.client: DynamoDBClient = boto3.client("dynamodb")
        self.table = name
        self.client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self.put(state="submitted", submission=1, epoch=0, version=1)

    def put(self, **fields: str | int) -> None:
        item: dict[str, Any] = {"pk": {"S": run_partition("tiny")}, "sk": {"S": RUN_SORT_KEY}}
        item.update(
            {name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in fields.items()}
        )
        self.client.put_item(TableName=self.table, Item=item)

    def item(self, sort_key: str = RUN_SORT_KEY) -> dict[str, Any]:
        key: dict[str, Any] = {"pk": {"S": run_partition("tiny")}, "sk": {"S": sort_key}}
        return self.client.get_item(TableName=self.table, Key=key).get("Item", {})

    def change(self, **fields: str | int | None) -> None:
        """Set these fields of the run; None removes one."""
        named = {name: value for name, value in fields.items() if value is not None}
        removed = [f"#{name}" for name, value in fields.items() if value is None]
        self.client.update_item(
            TableName=self.table,
            Key={"pk": {"S": run_partition("tiny")}, "sk": {"S": RUN_SORT_KEY}},
            UpdateExpression=f"SET {', '.join(['#version = #version + :one', *(f'#{n} = :{n}' for n in named)])}"
            + (f" REMOVE {', '.join(removed)}" if removed else ""),
            ExpressionAttributeNames={"#version": "version", **{f"#{name}": name for name in fields}},
            ExpressionAttributeValues={
                ":one": {"N": "1"},
                **{f":{n}": {"N": str(v)} if isinstance(v, int) else {"S": v} for n, v in named.items()},
            },
        )

    def hold_on_demand(self) -> None:
        """Let an attempt on on-demand hold the run, and place the standby of submission 2."""
        self.put(
            state="running",
            submission=1,
            market="on-demand",
            job_id=JOB,
            claimed_job_id=JOB,
            claimed_attempt=1,
            epoch=1,
            version=5,
            standby_submission=2,
            standby_job_id=STANDBY_JOB,
        )

    def move_on(self) -> None:
        """Let the run move on to its standby, as the control plane does when the job on on-demand has ended."""
        self.change(
            state="submitted",
            submission=2,
            market="spot",
            job_id=STANDBY_JOB,
            standby_submission=None,
            standby_job_id=None,
            standby_ready_at=None,
            handover_asked_at=None,
        )

    def wait_for(self, field: str) -> str:
        """Return a text field of the run once it is there."""
        give_up_at = time.monotonic() + 30
        while field not in (run := self.item()):
            assert time.monotonic() < give_up_at, f"no {field}: {run}"
        text: str = run[field]["S"]
        return text
