"""Read items of the ledger's table by their keys, a hundred in one call, consistently."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.contract import ledger as contract
from spotkeeper.control.ports import Throttled

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PER_CALL: Final = 100
"""Keys that DynamoDB takes in one batch of reads."""

Item = dict[str, Any]
"""Typed attributes by name, as DynamoDB has them."""


def read_items(client: "DynamoDBClient", table: str, keys: Sequence[Item]) -> list[Item]:
    """Return the items that there are, in the order of their keys.

    Raises:
        Throttled: DynamoDB has no time for any of them.
    """
    found: dict[tuple[str, str], Item] = {}
    for start in range(0, len(keys), PER_CALL):
        left = list(keys[start : start + PER_CALL])
        while left:
            reply = client.batch_get_item(RequestItems={table: {"Keys": left, "ConsistentRead": True}})
            found.update({_name(item): item for item in reply["Responses"].get(table, [])})
            # What did not fit into one answer of 16 MB, or came too fast.
            rest = list(reply["UnprocessedKeys"].get(table, {"Keys": []})["Keys"])
            if len(rest) == len(left):
                raise Throttled(f"DynamoDB read none of {len(left)} items")
            left = rest
    return [found[_name(key)] for key in keys if _name(key) in found]


def _name(item: Item) -> tuple[str, str]:
    return item[contract.PARTITION_KEY]["S"], item[contract.SORT_KEY]["S"]
