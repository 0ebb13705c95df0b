"""Query the listing index, which tells keys and nothing else; it may lag some seconds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.contract import ledger as contract

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PER_PAGE: Final = 1000


def keys_from_oldest(
    client: "DynamoDBClient", table: str, listing: str, *, behind: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the keys of a listing, or those behind one of them, oldest first, read page by page.

    Each has the attributes of the index too, as does `behind`, which need not be listed any more.
    """
    start: dict[str, Any] = {"ExclusiveStartKey": behind} if behind is not None else {}
    pages = client.get_paginator("query").paginate(
        **_query(table, listing), **start, PaginationConfig={"PageSize": _PER_PAGE}
    )
    for page in pages:
        yield from page["Items"]


def newest_keys(client: "DynamoDBClient", table: str, listing: str, limit: int) -> list[dict[str, Any]]:
    """Return the keys of the newest of a listing, newest first, as a read of items takes them."""
    pages = client.get_paginator("query").paginate(
        **_query(table, listing), ScanIndexForward=False, PaginationConfig={"MaxItems": limit, "PageSize": limit}
    )
    own = (contract.PARTITION_KEY, contract.SORT_KEY)
    return [{name: item[name] for name in own} for page in pages for item in page["Items"]]


def _query(table: str, listing: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "IndexName": contract.LISTING_INDEX,
        "KeyConditionExpression": "#listing = :listing",
        "ExpressionAttributeNames": {"#listing": contract.LISTING_PARTITION_KEY},
        "ExpressionAttributeValues": {":listing": {"S": listing}},
    }
