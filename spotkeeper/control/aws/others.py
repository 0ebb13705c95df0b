"""The record of others' jobs on DynamoDB, beside the ledger's runs."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

from spotkeeper.contract import ledger as contract
from spotkeeper.control.aws.batch_read import read_items
from spotkeeper.control.aws.ledger import item_key, read_plain, serialized, typed_errors
from spotkeeper.control.aws.listing_index import newest_keys
from spotkeeper.control.others import OthersJob
from spotkeeper.control.ports import Conflict

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FIELDS: Final = tuple(field.name for field in fields(OthersJob))


class DynamoDBOthersJobs:
    """Implements `ports.OthersJobs`."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def record(self, job: OthersJob, *, expires_at: int) -> bool:
        """Put the job where less is known of it, or was looked at earlier."""
        item = {
            **item_key(contract.others_partition(job.job_id), contract.OTHERS_SORT_KEY),
            **serialized(
                {
                    **asdict(job),
                    contract.LISTING_PARTITION_KEY: contract.LISTING_OTHERS,
                    contract.TIME_TO_LIVE: expires_at,
                }
            ),
        }
        try:
            with typed_errors():
                reply = self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression=(
                        "attribute_not_exists(#facts) OR #facts < :facts OR (#facts = :facts AND #seen < :seen)"
                    ),
                    ExpressionAttributeNames={"#facts": "facts", "#seen": "observed_at"},
                    ExpressionAttributeValues={":facts": {"N": str(job.facts)}, ":seen": {"S": job.observed_at}},
                    ReturnValues="ALL_OLD",
                )
        except Conflict:
            return False
        return read_plain(reply.get("Attributes", {})).get("facts") != job.facts

    def list_jobs(self, limit: int) -> tuple[OthersJob, ...]:
        """Query the listing index, newest first, and read the records."""
        with typed_errors():
            keys = newest_keys(self._client, self._table, contract.LISTING_OTHERS, limit)
            found = [read_plain(item) for item in read_items(self._client, self._table, keys)]
        return tuple(OthersJob(**{name: item[name] for name in _FIELDS if name in item}) for item in found)
