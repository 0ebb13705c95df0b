"""The events of Batch, EC2 and SageMaker, in AWS's exact shapes, sent by one thread and in the order of what happened.

Shapes: docs.aws.amazon.com/batch/latest/userguide/batch_job_events.html, …/batch-job-queue-blocked-events.html and
docs.aws.amazon.com/AWSEC2/latest/UserGuide/ (spot instance interruption notices, rebalance recommendations,
instance state-change notifications), docs.aws.amazon.com/sagemaker/latest/dg/ (automating SageMaker with EventBridge).
"""

import logging
import queue
import threading
import uuid
from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal

from emulation.clock import Clock
from emulation.ec2.market import Instance
from spotkeeper.contract.events import (
    BATCH_SOURCE,
    EC2_SOURCE,
    JOB_QUEUE_BLOCKED,
    JOB_STATE_CHANGE,
    REBALANCE_RECOMMENDATION,
    SAGEMAKER_SOURCE,
    SPOT_INTERRUPTION_WARNING,
    TRAINING_JOB_STATE_CHANGE,
)

INSTANCE_STATE_CHANGE: Final = "EC2 Instance State-change Notification"

_log = logging.getLogger(__name__)


class EventSender:
    """Builds events and hands them to `publish` on a thread of its own, so that no event ever delays a job.

    Args:
        publish: Takes one event. What it raises is kept in `failures`, and the next event is sent all the same.
        clock: Tells when something happened.
        random: Draws event ids.
        account: AWS account in the events.
        region: AWS region in the events.
    """

    def __init__(
        self, publish: Callable[[dict[str, Any]], None], *, clock: Clock, random: Random, account: str, region: str
    ) -> None:
        self.failures: list[Exception] = []
        self._publish = publish
        self._clock = clock
        self._random = random
        self._account = account
        self._region = region
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="emulation-events", daemon=True)
        self._thread.start()

    def job_state_changed(self, detail: dict[str, Any]) -> None:
        """Send a job's new state; `detail` is what DescribeJobs says of it."""
        self._send(BATCH_SOURCE, JOB_STATE_CHANGE, [detail["jobArn"]], detail)

    def job_queue_blocked(self, detail: dict[str, Any]) -> None:
        """Send that the job at the head of a queue cannot be placed; its `statusReason` says why."""
        self._send(BATCH_SOURCE, JOB_QUEUE_BLOCKED, [detail["jobArn"], detail["jobQueue"]], detail)

    def training_job_state_changed(self, detail: dict[str, Any]) -> None:
        """Send a training job's new status; `detail` is what DescribeTrainingJob says of it, times in milliseconds."""
        self._send(SAGEMAKER_SOURCE, TRAINING_JOB_STATE_CHANGE, [detail["TrainingJobArn"]], detail)

    def interruption_warning(self, instance: Instance) -> None:
        """Send that a spot instance will be taken away."""
        # The zone in place of the region is AWS's own.
        arn = f"arn:aws:ec2:{instance.zone}:{self._account}:instance/{instance.id}"
        detail = {"instance-id": instance.id, "instance-action": "terminate"}
        self._send(EC2_SOURCE, SPOT_INTERRUPTION_WARNING, [arn], detail)

    def rebalance_recommendation(self, instance: Instance) -> None:
        """Send that an instance is at a higher risk."""
        self._send(EC2_SOURCE, REBALANCE_RECOMMENDATION, [self._arn(instance)], {"instance-id": instance.id})

    def instance_state_changed(
        self, instance: Instance, state: Literal["pending", "running", "shutting-down", "terminated"]
    ) -> None:
        """Send an instance's new state."""
        detail = {"instance-id": instance.id, "state": state}
        self._send(EC2_SOURCE, INSTANCE_STATE_CHANGE, [self._arn(instance)], detail)

    def call(self, callback: Callable[[], None]) -> None:
        """Run a callback on the same thread, after the events so far."""
        self._waiting.put(callback)

    def stop(self) -> None:
        """Send what is waiting, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _send(self, source: str, detail_type: str, resources: list[str], detail: dict[str, Any]) -> None:
        event = {
            "version": "0",
            "id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "detail-type": detail_type,
            "source": source,
            "account": self._account,
            "time": f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}",
            "region": self._region,
            "resources": resources,
            "detail": detail,
        }
        self._waiting.put(lambda: self._publish(event))

    def _arn(self, instance: Instance) -> str:
        return f"arn:aws:ec2:{self._region}:{self._account}:instance/{instance.id}"

    def _run(self) -> None:
        while (action := self._waiting.get()) is not None:
            try:
                action()
            except Exception as error:  # noqa: BLE001  the outermost loop: one lost event must not lose the others
                self.failures.append(error)
                _log.error("an event could not be handed on", exc_info=error)
