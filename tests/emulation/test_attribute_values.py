"""Values of every type come out of the emulated DynamoDB as they went in."""

from typing import Any

import pytest

from emulation.aws import Aws

SCALARS: list[Any] = [{"S": "text"}, {"S": ""}, {"N": "-1.50"}, {"B": b"\x00\xff"}, {"BOOL": False}, {"NULL": True}]
SETS: list[Any] = [{"SS": ["a", "b"]}, {"NS": ["1", "2"]}, {"BS": [b"\x00", b"\xff"]}]
EMPTY: list[Any] = [{"M": {}}, {"L": []}]


@pytest.mark.parametrize("value", [*SCALARS, *SETS, *EMPTY, {"L": [*SCALARS, *SETS, *EMPTY]}, {"M": {"S": {"N": "1"}}}])
def test_a_value_is_read_as_it_was_written(aws: Aws, value: Any) -> None:
    aws.dynamodb.create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"key": {"S": "one"}, "value": value, "nested": {"M": {"value": value}}}

    aws.dynamodb.put_item(TableName="table", Item=item)

    assert aws.dynamodb.get_item(TableName="table", Key={"key": {"S": "one"}})["Item"] == item
    found = aws.dynamodb.query(
        TableName="table", KeyConditionExpression="#key = :key", ExpressionAttributeNames={"#key": "key"},
        ExpressionAttributeValues={":key": {"S": "one"}},
    )  # fmt: skip
    assert found["Items"] == [item]
