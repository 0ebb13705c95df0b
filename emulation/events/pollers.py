"""From SQS into functions, as Lambda's event source mappings do it.

A batch is received, the function is invoked with it, and what succeeded is deleted. What failed stays in flight until
its visibility time-out ends; the queue's redrive policy (moto applies it on receive) moves it to the dead letters.
docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import logging
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from emulation.clock import Clock
from emulation.events.functions import FunctionError, FunctionHost
from emulation.templates.deployment import EventSource, Queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_LARGEST_BATCH: Final = 10
"""SQS returns at most ten messages at once; Lambda joins several receives for a larger batch, this does not."""
_IDLE_SECONDS: Final = 1.0
"""How soon a redelivery is seen. New events do not wait for it: the router wakes the poller."""

_log = logging.getLogger(__name__)


class Poller:
    """Feeds one function from one queue.

    Args:
        source: The event source mapping.
        queue: Its queue.
        host: Its function.
        sqs: Client of the emulation's endpoint.
        region: Named in the events.
        clock: Divides the queue's visibility time-out by its speed where a message failed.
    """

    def __init__(
        self, source: EventSource, queue: Queue, host: FunctionHost, *, sqs: "SQSClient", region: str, clock: Clock
    ) -> None:
        self.queue_arn = source.queue_arn
        self.function_errors: list[FunctionError] = []
        """Invocations that failed as a whole."""
        self.failures: list[Exception] = []
        """What the endpoint refused: defects of the emulation."""
        self._source = source
        self._queue = queue
        self._host = host
        self._sqs = sqs
        self._region = region
        self._clock = clock
        self._wake = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=f"poller-{host.function.logical_id}", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def wake(self) -> None:
        """Look into the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Take no more messages. The batch that is being handled goes on; `join` waits for it."""
        self._is_stopped = True
        self._wake.set()

    def join(self) -> None:
        """Wait for the last batch."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._is_stopped:
            self._wake.clear()
            try:
                had_messages = self._take_batch()
            except (ClientError, BotoCoreError) as error:
                self.failures.append(error)
                _log.error("queue %s could not be polled", self._queue.name, exc_info=error)
                had_messages = False
            if not had_messages:
                self._wake.wait(_IDLE_SECONDS)

    def _take_batch(self) -> bool:
        messages = self._sqs.receive_message(
            QueueUrl=self._queue.url,
            MaxNumberOfMessages=min(self._source.batch_size, _LARGEST_BATCH),
            # Never a long poll: that would keep senders out of moto, which takes one call at a time.
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if messages:
            self._handle(messages)
        return bool(messages)

    def _handle(self, messages: Sequence["MessageTypeDef"]) -> None:
        ids = [message["MessageId"] for message in messages]
        try:
            response = self._host.invoke(sqs_event(messages, queue_arn=self.queue_arn, region=self._region))
        except FunctionError as error:
            if self._is_stopped:
                return
            self.function_errors.append(error)
            failed = set(ids)
        else:
            failed = failed_ids(response, ids) if self._source.reports_batch_item_failures else set()
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            self._sqs.delete_message_batch(
                QueueUrl=self._queue.url,
                Entries=[{"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]} for message in done],
            )
        self._hasten(message for message in messages if message["MessageId"] in failed)

    def _hasten(self, failed: Iterable["MessageTypeDef"]) -> None:
        seconds = math.ceil(self._clock.real_seconds(self._queue.visibility_timeout_seconds))
        if seconds < self._queue.visibility_timeout_seconds:
            for message in failed:
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
                )


def sqs_event(messages: Iterable["MessageTypeDef"], *, queue_arn: str, region: str) -> dict[str, Any]:
    """Return the event that Lambda makes of messages: docs.aws.amazon.com/lambda/latest/dg/with-sqs.html."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": dict(message.get("Attributes", {})),
                "messageAttributes": dict(message.get("MessageAttributes", {})),
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": region,
            }
            for message in messages
        ]
    }


def failed_ids(response: Any, ids: Sequence[str]) -> set[str]:
    """Return the messages that a function reports as failed; all of them if the report is malformed, as AWS does."""
    everything = set(ids)
    if response is None or response == {}:
        return set()
    if not isinstance(response, Mapping):
        return everything
    reported = response.get("batchItemFailures")
    if reported is None:
        return set()
    if not isinstance(reported, list):
        return everything
    failed = {str(item.get("itemIdentifier")) if isinstance(item, Mapping) else "" for item in reported}
    return failed if failed <= everything else everything
