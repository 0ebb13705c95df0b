"""Sweeps on DynamoDB: their records, and their members by the hundred."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from spotkeeper.contract import ledger as contract
from spotkeeper.contract.names import member_id
from spotkeeper.control.aws.batch_read import read_items
from spotkeeper.control.aws.ledger import item_key, read_plain, run_item, run_of, serialized, typed_errors
from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PER_CALL: Final = 100
"""Items that DynamoDB takes in one transaction, and gives in one batch of reads."""
_CANCELLED: Final = "TransactionCanceledException"
_FIELDS: Final = tuple(field.name for field in fields(SweepRecord))


class DynamoDBSweeps:
    """Implements `ports.Sweeps` on the table of the ledger."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def create(self, sweep: SweepRecord) -> SweepRecord:
        """Put the record where none is, and return the one that is there."""
        item = {**_key(sweep.name), **serialized({**asdict(sweep), "parameters": list(sweep.parameters)})}
        try:
            with typed_errors():
                self._client.put_item(TableName=self._table, Item=item, **_WHERE_NONE_IS)
        except Conflict:
            return self.get(sweep.name) or sweep
        return sweep

    def get(self, name: str) -> SweepRecord | None:
        """Read the record, consistently."""
        with typed_errors():
            reply = self._client.get_item(TableName=self._table, Key=_key(name), ConsistentRead=True)
        if "Item" not in reply:
            return None
        item = read_plain(reply["Item"])
        known = {field: item[field] for field in _FIELDS if field in item}
        return SweepRecord(**{**known, "parameters": tuple(known["parameters"])})

    def mark_sent(self, sweep: SweepRecord, *, at: str | None) -> SweepRecord:
        """Set or remove the mark if it is as it was read."""
        values = {name: {"S": text} for name, text in ((":at", at), (":read", sweep.sent_at)) if text is not None}
        request: dict[str, Any] = {
            "Key": _key(sweep.name),
            "ConditionExpression": "attribute_not_exists(#sent)" if sweep.sent_at is None else "#sent = :read",
            "UpdateExpression": "REMOVE #sent" if at is None else "SET #sent = :at",
            "ExpressionAttributeNames": {"#sent": "sent_at"},
        }
        with typed_errors():
            self._client.update_item(TableName=self._table, **request, ExpressionAttributeValues=values)
        return replace(sweep, sent_at=at)

    def create_members(self, runs: Sequence[Run]) -> None:
        """Put those that are missing, in one transaction."""
        missing = self._missing(runs)
        while missing:
            try:
                with typed_errors():
                    self._client.transact_write_items(TransactItems=[self._put(run) for run in missing])
            except ClientError as error:
                if error.response["Error"]["Code"] != _CANCELLED:
                    raise
                # Somebody creates the same ones at this moment; or DynamoDB had too much to do.
                before, missing = missing, self._missing(runs)
                if missing == before:
                    raise Throttled(str(error)) from error
            else:
                return

    def members(self, sweep: SweepRecord) -> Iterator[Run]:
        """Read the members, consistently, a hundred at a time."""
        ids = [member_id(sweep.name, index) for index in range(sweep.size)]
        for start in range(0, len(ids), PER_CALL):
            found = self._read(ids[start : start + PER_CALL])
            yield from (found[run_id] for run_id in ids[start : start + PER_CALL] if run_id in found)

    def _missing(self, runs: Sequence[Run]) -> list[Run]:
        found = self._read([run.run_id for run in runs])
        for run in runs:
            known = found.get(run.run_id)
            if known is not None and (known.sweep, known.array_index) != (run.sweep, run.array_index):
                raise Conflict(f"the id {run.run_id} is taken by another run")
        return [run for run in runs if run.run_id not in found]

    def _read(self, run_ids: Sequence[str]) -> dict[str, Run]:
        keys = [item_key(contract.run_partition(run_id), contract.RUN_SORT_KEY) for run_id in run_ids]
        with typed_errors():
            found = [run_of(read_plain(item)) for item in read_items(self._client, self._table, keys)]
        return {run.run_id: run for run in found}

    def _put(self, run: Run) -> Any:
        key = item_key(contract.run_partition(run.run_id), contract.RUN_SORT_KEY)
        return {"Put": {"TableName": self._table, "Item": {**key, **run_item(run)}, **_WHERE_NONE_IS}}


_WHERE_NONE_IS: Final[dict[str, Any]] = {
    "ConditionExpression": "attribute_not_exists(#pk)",
    "ExpressionAttributeNames": {"#pk": contract.PARTITION_KEY},
}


def _key(name: str) -> dict[str, Any]:
    return item_key(contract.sweep_partition(name), contract.SWEEP_SORT_KEY)
