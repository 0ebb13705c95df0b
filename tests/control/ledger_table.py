"""The ledger's table in moto, with the keys and the index that the contract names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3

from spotkeeper.contract import ledger as contract
from tests.control.mocked_aws import REGION, mocked_aws

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "ledger"


def create_table(client: "DynamoDBClient", name: str = TABLE) -> None:
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": contract.PARTITION_KEY, "KeyType": "HASH"},
            {"AttributeName": contract.SORT_KEY, "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": "S"}
            for attribute in (
                contract.PARTITION_KEY,
                contract.SORT_KEY,
                contract.LISTING_PARTITION_KEY,
                contract.LISTING_SORT_KEY,
            )
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": contract.LISTING_INDEX,
                "KeySchema": [
                    {"AttributeName": contract.LISTING_PARTITION_KEY, "KeyType": "HASH"},
                    {"AttributeName": contract.LISTING_SORT_KEY, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )


@contextmanager
def dynamodb() -> Iterator["DynamoDBClient"]:
    with mocked_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        create_table(client)
        yield client
