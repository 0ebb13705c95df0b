"""The ledger on DynamoDB: single-item conditional writes; conditions compare attributes with values, nothing more."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from spotkeeper.contract import ledger as contract
from spotkeeper.control.aws.batch_read import read_items
from spotkeeper.control.aws.listing_index import keys_from_oldest, newest_keys
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.measures import Measures
from spotkeeper.control.ports import Conflict, Throttled
from spotkeeper.control.run import Attempt, Completion, HistoryEvent, Interruption, Run

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        # The item is in a transaction at this moment; botocore does not repeat this one.
        "TransactionConflictException",
    }
)
_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_SLOTS_KEPT_SECONDS: Final = 3600
"""Counters are of use for one second; DynamoDB removes them some time after this."""
_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


class DynamoDBLedger:
    """Implements `ports.Ledger`. Fields that this version does not know are left as they are."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def create(self, run: Run) -> Run:
        """Put the run where none is."""
        item = {**item_key(contract.run_partition(run.run_id), contract.RUN_SORT_KEY), **run_item(run)}
        try:
            put_new(self._client, self._table, item)
        except Conflict:
            # The client may have repeated a put that had succeeded.
            if self.get(run.run_id) != run:
                raise
        return run

    def get(self, run_id: str) -> Run | None:
        """Read the run, consistently."""
        item = self._get(contract.run_partition(run_id), contract.RUN_SORT_KEY)
        return run_of(item) if item else None

    def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Read the runs, consistently, a hundred at a time."""
        keys = [item_key(contract.run_partition(run_id), contract.RUN_SORT_KEY) for run_id in run_ids]
        with typed_errors():
            found = read_items(self._client, self._table, keys)
        return tuple(_readable(found))

    def advance(self, run: Run, **changes: Any) -> Run:
        """Update the run if it is at the version read."""
        after = run.advanced(**changes)
        with typed_errors():
            self._client.update_item(TableName=self._table, **run_update(run, after, changes))
        return after

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        """Read the run's attempts, consistently."""
        items = self._query(contract.run_partition(run_id), contract.ATTEMPT_SORT_PREFIX)
        return tuple(_attempt_of(run_id, item) for item in items)

    def record_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        """Update an attempt if it is at the version read."""
        key = item_key(
            contract.run_partition(attempt.run_id), contract.attempt_sort_key(attempt.submission, attempt.attempt)
        )
        identity = {"submission": attempt.submission, "attempt": attempt.attempt}
        # The attempt itself may have written its own fields first; those carry no version.
        condition = "#version = :read" if attempt.version else "attribute_not_exists(#version)"
        values = {":read": {"N": str(attempt.version)}} if attempt.version else {}
        written = {**identity, **changes, "version": attempt.version + 1}
        self._update(key, written, condition=condition, condition_values=values)
        return Attempt(**{**_shallow(attempt), **changes, "version": attempt.version + 1})

    def record_interruption(self, interruption: Interruption, *, expires_at: int) -> None:
        """Add the facts that are not there yet."""
        facts = {name: value for name, value in _shallow(interruption).items() if value is not None}
        facts[contract.TIME_TO_LIVE] = expires_at
        with typed_errors():
            self._client.update_item(
                TableName=self._table,
                Key=item_key(contract.instance_partition(interruption.instance_id), contract.INTERRUPTION_SORT_KEY),
                UpdateExpression="SET "
                + ", ".join(f"#f{index} = if_not_exists(#f{index}, :f{index})" for index in range(len(facts))),
                ExpressionAttributeNames={f"#f{index}": name for index, name in enumerate(facts)},
                ExpressionAttributeValues={
                    f":f{index}": _serializer.serialize(value) for index, value in enumerate(facts.values())
                },
            )

    def interruption_of(self, instance_id: str) -> Interruption | None:
        """Read what is known of the instance."""
        item = self._get(contract.instance_partition(instance_id), contract.INTERRUPTION_SORT_KEY)
        return Interruption(**{"instance_id": instance_id, **_known(Interruption, item)}) if item else None

    def list_runs(self, listing: str, limit: int) -> tuple[Run, ...]:
        """Query the listing index, newest first, and read the runs; one that has left the listing since is left out."""
        with typed_errors():
            found = read_items(self._client, self._table, newest_keys(self._client, self._table, listing, limit))
        runs = (run_of(read_plain(item)) for item in found)
        return tuple(run for run in runs if run.listing == listing)

    def open_runs(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        """Query the listing index page by page, oldest first."""
        start = None
        if behind is not None:
            key = item_key(contract.run_partition(behind.run_id), contract.RUN_SORT_KEY)
            start = index_key(key, contract.LISTING_OPEN, behind.created_at)
        with typed_errors():
            for item in keys_from_oldest(self._client, self._table, contract.LISTING_OPEN, behind=start):
                run_id = item[contract.PARTITION_KEY]["S"].removeprefix(contract.run_partition(""))
                yield Listed(created_at=item[contract.LISTING_SORT_KEY]["S"], run_id=run_id)

    def position(self, listing: str) -> Position | None:
        """Read the position, consistently."""
        item = self._get(contract.SWEEPER_PARTITION, contract.position_sort_key(listing))
        if item is None:
            return None
        parts: dict[str, type[Any]] = {"last": Listed, "whole": Measures, "part": Measures}
        told = {name: kind(**_known(kind, item[name])) for name, kind in parts.items() if name in item}
        return Position(began_at=item["began_at"], **told)

    def keep_position(self, listing: str, position: Position) -> None:
        """Put the position in the place of the last."""
        parts = {"last": position.last, "whole": position.whole, "part": position.part}
        stored = {name: {"M": serialized(asdict(part))} for name, part in parts.items() if part is not None}
        key = item_key(contract.SWEEPER_PARTITION, contract.position_sort_key(listing))
        with typed_errors():
            self._client.put_item(
                TableName=self._table, Item={**key, **serialized({"began_at": position.began_at}), **stored}
            )

    def record_start(self, queue: str, *, at: str) -> None:
        """Set the start if none is known, or an earlier one."""
        try:
            with typed_errors():
                self._client.update_item(
                    TableName=self._table,
                    Key=item_key(contract.queue_partition(queue), contract.START_SORT_KEY),
                    ConditionExpression="attribute_not_exists(#started) OR #started < :at",
                    UpdateExpression="SET #started = :at",
                    ExpressionAttributeNames={"#started": "started_at"},
                    ExpressionAttributeValues={":at": {"S": at}},
                )
        except Conflict:
            return

    def last_start(self, queue: str) -> str | None:
        """Read the start, consistently."""
        item = self._get(contract.queue_partition(queue), contract.START_SORT_KEY)
        return item["started_at"] if item else None

    def take_submission_slot(self, *, second: int, team: str, limit: int, team_limit: int) -> bool:
        """Add one to the counters of the second, where both leave room."""
        try:
            with typed_errors():
                self._client.update_item(
                    TableName=self._table,
                    Key=item_key(contract.second_partition(second), contract.SUBMISSION_SLOTS_SORT_KEY),
                    ConditionExpression=(
                        "(attribute_not_exists(#all) OR #all < :limit)"
                        " AND (attribute_not_exists(#team) OR #team < :team_limit)"
                    ),
                    UpdateExpression="SET #expires = :expires ADD #all :one, #team :one",
                    ExpressionAttributeNames={
                        "#all": "num_submissions",
                        "#team": f"num_submissions_of_{team}",
                        "#expires": contract.TIME_TO_LIVE,
                    },
                    ExpressionAttributeValues={
                        ":limit": {"N": str(limit)},
                        ":team_limit": {"N": str(team_limit)},
                        ":one": {"N": "1"},
                        ":expires": {"N": str(second + _SLOTS_KEPT_SECONDS)},
                    },
                )
        except Conflict:
            return False
        return True

    def append_event(self, run_id: str, event: HistoryEvent) -> None:
        """Put the event where none is."""
        sort_key = f"{contract.EVENT_SORT_PREFIX}{event.at}#{event.event_id}"
        item = {**item_key(contract.run_partition(run_id), sort_key), **serialized(asdict(event))}
        try:
            put_new(self._client, self._table, item)
        except Conflict:
            return

    def history(self, run_id: str) -> tuple[HistoryEvent, ...]:
        """Read the run's history."""
        items = self._query(contract.run_partition(run_id), contract.EVENT_SORT_PREFIX)
        return tuple(HistoryEvent(**_known(HistoryEvent, item)) for item in items)

    def _get(self, partition: str, sort: str) -> dict[str, Any] | None:
        with typed_errors():
            reply = self._client.get_item(TableName=self._table, Key=item_key(partition, sort), ConsistentRead=True)
        return read_plain(reply["Item"]) if "Item" in reply else None

    def _query(self, partition: str, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="#pk = :pk AND begins_with(#sk, :prefix)",
            ExpressionAttributeNames={"#pk": contract.PARTITION_KEY, "#sk": contract.SORT_KEY},
            ExpressionAttributeValues={":pk": {"S": partition}, ":prefix": {"S": prefix}},
        )
        with typed_errors():
            return [read_plain(item) for page in pages for item in page["Items"]]

    def _update(
        self, key: dict[str, Any], changes: Mapping[str, Any], *, condition: str, condition_values: dict[str, Any]
    ) -> None:
        with typed_errors():
            self._client.update_item(
                TableName=self._table,
                **_update_of(key, changes, condition=condition, condition_values=condition_values),
            )


def put_new(client: "DynamoDBClient", table: str, item: dict[str, Any]) -> None:
    """Put an item where none is.

    Raises:
        Conflict: there is one; it may be this very item, put by a call whose reply was lost.
    """
    with typed_errors():
        client.put_item(
            TableName=table,
            Item=item,
            ConditionExpression="attribute_not_exists(#pk)",
            ExpressionAttributeNames={"#pk": contract.PARTITION_KEY},
        )


def run_update(run: Run, after: Run, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an update from one version of a run to the next, without the table's name."""
    written = {**changes, "version": after.version}
    if after.listing != run.listing:
        written[contract.LISTING_PARTITION_KEY] = after.listing
    key = item_key(contract.run_partition(run.run_id), contract.RUN_SORT_KEY)
    return _update_of(key, written, condition="#version = :read", condition_values={":read": {"N": str(run.version)}})


def _update_of(
    key: dict[str, Any], changes: Mapping[str, Any], *, condition: str, condition_values: dict[str, Any]
) -> dict[str, Any]:
    kept = [name for name, value in changes.items() if value is not None]
    removed = [name for name, value in changes.items() if value is None]
    clauses = "SET " + ", ".join(f"#{name} = :{name}" for name in kept)
    if removed:
        clauses += " REMOVE " + ", ".join(f"#{name}" for name in removed)
    return {
        "Key": key,
        "ConditionExpression": condition,
        "UpdateExpression": clauses,
        "ExpressionAttributeNames": {f"#{name}": name for name in changes},
        "ExpressionAttributeValues": {**{f":{name}": _attribute(changes[name]) for name in kept}, **condition_values},
    }


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn DynamoDB's refusals into those of the ports."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == _CONDITION_FAILED:
            raise Conflict(code) from error
        if code in _THROTTLES:
            raise Throttled(str(error)) from error
        raise


def item_key(partition: str, sort: str) -> dict[str, Any]:
    """Return the key of an item."""
    return {contract.PARTITION_KEY: {"S": partition}, contract.SORT_KEY: {"S": sort}}


def index_key(key: dict[str, Any], listing: str, created_at: str) -> dict[str, Any]:
    """Return the key of an item in the listing index."""
    return {**key, contract.LISTING_PARTITION_KEY: {"S": listing}, contract.LISTING_SORT_KEY: {"S": created_at}}


def _attribute(value: Any) -> Any:
    if isinstance(value, Completion):
        return {"M": serialized(asdict(value))}
    return _serializer.serialize(dict(value) if isinstance(value, Mapping) else value)


def serialized(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as typed attributes; what is None is left out."""
    return {name: _attribute(value) for name, value in values.items() if value is not None}


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def run_item(run: Run) -> dict[str, Any]:
    """Return the attributes of a run's item, without its key."""
    return serialized({**_shallow(run), contract.LISTING_PARTITION_KEY: run.listing})


def read_plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed attributes as Python has them."""
    return {name: _integral(_deserializer.deserialize(value)) for name, value in item.items()}


def _integral(value: Any) -> Any:
    """Every number in the ledger is a whole one; boto3 reads them as Decimal."""
    if isinstance(value, Decimal):
        return int(value)
    return {name: _integral(part) for name, part in value.items()} if isinstance(value, dict) else value


def _known(kind: type[Any], item: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in item.items() if name in names}


def _readable(items: Iterable[dict[str, Any]]) -> Iterator[Run]:
    """Yield the runs of items; one that this version cannot read, a later one's perhaps, must not hide the others.

    Whoever asks for that one alone is told what is wrong with it.
    """
    for item in items:
        with suppress(KeyError, TypeError, ValueError):
            yield run_of(read_plain(item))


def run_of(item: Mapping[str, Any]) -> Run:
    """Return the run of an item's plain attributes."""
    known = _known(Run, item)
    known["state"] = contract.RunState(known["state"])
    known["command"] = tuple(known["command"])
    if "completion" in known:
        known["completion"] = Completion(**_known(Completion, known["completion"]))
    return Run(**known)


def _attempt_of(run_id: str, item: Mapping[str, Any]) -> Attempt:
    return Attempt(**{**_known(Attempt, item), "run_id": run_id})
