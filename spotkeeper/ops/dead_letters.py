"""Events that could not be handled: what they tell, and how they are given to their function again, or given up.

Messages are sent to the queue that they died in before they are deleted, so one may be handled twice and none is lost.
SQS's own StartMessageMoveTask does not take those that EventBridge could not deliver:
docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MOST_LISTED: Final = 1000
"""A command that shows more than that is no help; those that are not shown stay."""
HIDDEN_SECONDS: Final = 60
"""For so long a command has the messages to itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """One message of a dead-letter queue."""

    message_id: str
    """As the function's log names it."""
    queue: str
    """The queue that it died in, by name."""
    sent_at: str
    event: str
    """What happened, in AWS's words (`detail-type`); the message's beginning if it is no event."""
    about: str
    """The job, instance or queue that it is about; empty if it names none."""
    reason: str
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Received:
    letter: DeadLetter
    receipt: str
    dead_letters_url: str
    source_url: str


def read(connection: Connection) -> tuple[DeadLetter, ...]:
    """Return the dead letters of the environment, and leave them where they are."""
    received = list(_receive(connection))
    for one in received:
        _show_again(connection.sqs, one)
    return tuple(one.letter for one in received)


def redrive(connection: Connection, message_ids: tuple[str, ...] = ()) -> tuple[DeadLetter, ...]:
    """Give dead letters to their function again: those named, or all. Handlers take an event any number of times.

    Raises:
        OperationError: if one that is named is not there; nothing was moved.
    """
    chosen = _choose(connection, message_ids)
    for one in chosen:
        connection.sqs.send_message(QueueUrl=one.source_url, MessageBody=one.letter.body)
        connection.sqs.delete_message(QueueUrl=one.dead_letters_url, ReceiptHandle=one.receipt)
    return tuple(one.letter for one in chosen)


def discard(connection: Connection, message_id: str) -> DeadLetter:
    """Delete a dead letter for good and return it. What its event would have told, the sweeper finds by itself.

    Raises:
        OperationError: if it is not there.
    """
    (one,) = _choose(connection, (message_id,))
    connection.sqs.delete_message(QueueUrl=one.dead_letters_url, ReceiptHandle=one.receipt)
    return one.letter


def _choose(connection: Connection, message_ids: tuple[str, ...]) -> list[_Received]:
    received = list(_receive(connection))
    there = {one.letter.message_id for one in received}
    missing = sorted(set(message_ids) - there)
    chosen = [one for one in received if not missing and (not message_ids or one.letter.message_id in message_ids)]
    for one in received:
        if one not in chosen:
            _show_again(connection.sqs, one)
    if missing:
        raise OperationError(
            f"no dead letter {', '.join(missing)}: `spotkeeper dead-letters list` shows those there are; one that "
            f"somebody else is reading shows again after {HIDDEN_SECONDS} seconds"
        )
    return chosen


def _receive(connection: Connection) -> Iterator[_Received]:
    """Take the messages of every dead-letter queue, until each says that it has no more."""
    sqs = connection.sqs
    taken = 0
    for source_url in _queue_urls(connection):
        told = sqs.get_queue_attributes(QueueUrl=source_url, AttributeNames=["RedrivePolicy"])
        if "RedrivePolicy" not in told.get("Attributes", {}):
            continue
        # arn:aws:sqs:<region>:<account>:<name>
        name = json.loads(told["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        if not _num_visible(sqs, url):
            continue
        while taken < MOST_LISTED:
            # A wait asks all of SQS's servers, so that an empty answer means an empty queue.
            messages = sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            if not messages:
                break
            taken += len(messages)
            for message in messages:
                yield _Received(
                    letter=_letter(message, source_url.rpartition("/")[2]),
                    receipt=message["ReceiptHandle"],
                    dead_letters_url=url,
                    source_url=source_url,
                )


def _num_visible(sqs: "SQSClient", url: str) -> int:
    """Return what the alarm reads too; it may be a minute old."""
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(told["Attributes"]["ApproximateNumberOfMessages"])


def _queue_urls(connection: Connection) -> list[str]:
    """Return all queues of the stack that gets events; the physical id of a queue is its URL."""
    pages = connection.cloudformation.get_paginator("list_stack_resources").paginate(
        StackName=f"spotkeeper-{connection.descriptor.environment}-recovery"
    )
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    return sorted(one["PhysicalResourceId"] for one in resources if one["ResourceType"] == "AWS::SQS::Queue")


def _show_again(sqs: "SQSClient", one: _Received) -> None:
    sqs.change_message_visibility(QueueUrl=one.dead_letters_url, ReceiptHandle=one.receipt, VisibilityTimeout=0)


def _letter(message: "MessageTypeDef", queue: str) -> DeadLetter:
    event, about = _told(message["Body"])
    sent_ms = int(message["Attributes"]["SentTimestamp"])
    # EventBridge says why it could not deliver; a function's reason stands in its log.
    error = message.get("MessageAttributes", {}).get("ERROR_MESSAGE")
    undelivered = error.get("StringValue") if error else None
    return DeadLetter(
        message_id=message["MessageId"],
        queue=queue,
        sent_at=datetime.fromtimestamp(sent_ms / 1000, UTC).isoformat(timespec="seconds"),
        event=event,
        about=about,
        reason=f"not delivered: {undelivered}" if undelivered else "its function failed: see the function's log",
        body=message["Body"],
    )


def _told(body: str) -> tuple[str, str]:
    try:
        event: Any = json.loads(body)
        detail = event["detail"]
        about = next(
            (str(detail[name]) for name in ("jobName", "jobId", "instance-id", "jobQueue") if name in detail), ""
        )
        return str(event["detail-type"]), about
    except (ValueError, KeyError, TypeError):
        return f"no event: {body[:40]!r}", ""
