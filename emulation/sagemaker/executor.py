"""The life of training jobs: a thread a job, which waits for capacity, trains, and begins again when that is taken.

One lock guards all state; whoever changes it wakes the jobs' threads.
"""

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from emulation.clock import Clock
from emulation.ec2.market import Instance, SpotMarket
from emulation.sagemaker.mirror import Mirror
from emulation.sagemaker.node import NoDataError, Node, Surroundings, split_uri
from emulation.sagemaker.training_jobs import INSUFFICIENT_CAPACITY, MESSAGES, Period, TrainingJob
from spotkeeper.contract.training import LOG_GROUP

STOP_SECONDS: Final = 120.0
"""From SIGTERM to SIGKILL. docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html"""
DEFAULT_RUNTIME_SECONDS: Final = 86_400
_LONGEST_REASON: Final = 1024
"""docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html, of FailureReason. Nobody says whether
the exit code at its end is spared."""
CAPACITY_ERROR: Final = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long SageMaker takes, in AWS seconds. None of these is documented."""

    boot_seconds: float = 120.0
    """From the launch of instances to their first download."""
    download_seconds: float = 60.0
    """What the image takes on top of the data."""
    on_demand_patience_seconds: float = 1800.0
    """How long a job without spot is tried for capacity before it fails."""
    mirror_seconds: float = 60.0
    """How late a file of a checkpoint folder may be mirrored."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """What becomes of a job that ends."""

    status: str
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _CutShort:
    """What came before there was a container."""

    ending: _Ending | None
    """None: the job begins again."""


class _StoppedError(Exception):
    """The emulation ends."""


class Executor:
    """Runs training jobs.

    Args:
        market: Where instances come from.
        zones: Availability zones in which it may take them.
        clock: Shortens SageMaker's delays and limits.
        changed: Told of a job at each change of its secondary status.
        work_dir: Each node gets `<job>/<period>/<node>/` in it, whose `output.log` stays.
        emulation_id: First part of the containers' marks.
        surroundings: What every container has.
        delays: How long SageMaker takes.
        seed: Decides what the mirror does.
    """

    def __init__(
        self,
        *,
        market: SpotMarket,
        zones: Sequence[str],
        clock: Clock,
        changed: Callable[[TrainingJob], None],
        work_dir: Path,
        emulation_id: str,
        surroundings: Surroundings,
        delays: Delays,
        seed: int,
    ) -> None:
        self.failures: list[Exception] = []
        self.mirrors_are_stopped = threading.Event()
        """While it is set no checkpoint folder is mirrored, and nobody is told."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._market = market
        self._zones = tuple(zones)
        self._clock = clock
        self._tell = changed
        self._work_dir = work_dir
        self._emulation_id = emulation_id
        self._surroundings = surroundings
        self._delays = delays
        self._seed = seed
        self._threads: list[threading.Thread] = []
        self._nodes: dict[str, Node] = {}
        """By instance id."""
        self._is_stopping = False
        market.attach(self)

    def run(self, job: TrainingJob) -> None:
        """Let a job live."""
        thread = threading.Thread(target=self._live, args=(job,), name=f"training-{job.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def request_stop(self, job: TrainingJob) -> None:
        """Stop a job wherever it is."""
        with self._changed:
            job.is_stop_requested = True
            self._changed.notify_all()

    def end_wait(self, job: TrainingJob) -> None:
        """Let the job's MaxWaitTimeInSeconds be used up."""
        with self._changed:
            job.is_wait_over = True
            self._changed.notify_all()

    def wait(self, job: TrainingJob, accept: Callable[[TrainingJob], bool], timeout_seconds: float) -> None:
        """Wait until a job is as wanted.

        Raises:
            TimeoutError: if it does not get there in time, naming where it is.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: accept(job), timeout_seconds):
                raise TimeoutError(
                    f"training job {job.name} is {job.status}/{job.secondary_status} ({job.failure_reason}) after "
                    f"{timeout_seconds:g} s"
                )

    def stop(self) -> None:
        """End every container and instance. Jobs stay as they are."""
        with self._changed:
            self._is_stopping = True
            nodes = list(self._nodes.values())
            self._changed.notify_all()
        for node in nodes:
            if node.container is not None:
                node.container.kill()
        for thread in self._threads:
            thread.join()

    # What the market says.

    def capacity_changed(self) -> None:
        """Try again to launch what waits."""
        self._wake()

    def rebalance_recommended(self, instance: Instance) -> None:
        """Do nothing: SageMaker passes none on."""

    def interruption_noticed(self, instance: Instance) -> None:
        """Let the container know, as SageMaker may or may not do: an interruption without a notice tells nobody."""
        with self.lock:
            node = self._nodes.get(instance.id)
        if node is not None and node.container is not None:
            node.container.terminate()

    def host_lost(self, instance: Instance) -> None:
        """End what ran there."""
        with self.lock:
            node = self._nodes.get(instance.id)
            self._changed.notify_all()
        if node is not None and node.container is not None:
            node.container.kill()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # The life of a job.

    def _live(self, job: TrainingJob) -> None:
        try:
            self._move(job, "Starting")
            life = _Life(job, self._clock, patience_seconds=self._delays.on_demand_patience_seconds)
            while (ending := self._serve(job, life)) is None:
                self._move(job, "Interrupted")
                self._move(job, "Starting")
            with self.lock:
                job.failure_reason = ending.failure_reason
                self._move(job, ending.status)
        except _StoppedError:
            pass
        except Exception as error:  # noqa: BLE001  the thread's outermost frame: a bug here must not pass in silence
            self.failures.append(error)
            _log.error("training job %s could not be followed to its end", job.name, exc_info=error)

    def _serve(self, job: TrainingJob, life: "_Life") -> _Ending | None:
        """Go through one period of the job; None if its capacity was taken away, and it begins again."""
        instances = self._launch(job, life)
        if isinstance(instances, _Ending):
            return instances
        number = len(job.periods) + 1
        folder = self._work_dir / job.name / str(number)
        port = _free_port()
        nodes = [
            Node(
                job,
                index,
                instance_type=instance.type,
                folder=folder / str(index + 1),
                limit_seconds=life.run_seconds_left,
                rendezvous_port=port,
                surroundings=self._surroundings,
            )
            for index, instance in enumerate(instances)
        ]
        period = Period(instances=instances, log_paths=tuple(node.log_path for node in nodes))
        with self.lock:
            job.periods.append(period)
            self._nodes |= {instance.id: node for instance, node in zip(instances, nodes, strict=True)}
        try:
            return self._train(job, life, period, nodes)
        finally:
            with self.lock:
                for instance in instances:
                    del self._nodes[instance.id]
            for node in nodes:
                node.clean_up()
            for instance in instances:
                self._market.terminate(instance.id)

    def _launch(self, job: TrainingJob, life: "_Life") -> tuple[Instance, ...] | _Ending:
        """Wait for as many instances of one type as the job has nodes."""
        launched: list[Instance] = []

        def launch() -> bool:
            for instance_type in job.instance_types:
                launched[:] = self._market.launch_together(
                    instance_type, self._zones, "spot" if job.is_spot else "on-demand", count=job.node_count
                )
                if launched:
                    return True
            job.transitions[-1].message = INSUFFICIENT_CAPACITY
            return False

        with self._changed:
            self._wait(job, life.launch_seconds_left, launch)
        if launched:
            return tuple(launched)
        if job.is_stop_requested:
            return _Ending("Stopped")
        return _Ending("MaxWaitTimeExceeded") if job.is_spot else _Ending("Failed", CAPACITY_ERROR)

    def _train(self, job: TrainingJob, life: "_Life", period: Period, nodes: list[Node]) -> _Ending | None:
        with self._changed:
            job.transitions[-1].message = MESSAGES["Preparing"]
        cut_short = self._pause(job, life, period, self._delays.boot_seconds)
        if cut_short is not None:
            return cut_short.ending
        period.billed_from = self._clock.now()
        self._move(job, "Downloading")
        try:
            mirrors = self._bring(job, nodes)
        except (ClientError, BotoCoreError, NoDataError) as error:
            period.ended_at = self._clock.now()
            return _Ending("Failed", f"ClientError: Data download failed: {error}")
        cut_short = self._pause(job, life, period, self._delays.download_seconds)
        if cut_short is not None:
            period.ended_at = self._clock.now()
            return cut_short.ending
        life.training_begins()
        try:
            ending = self._run_containers(job, life, period, nodes, mirrors)
        finally:
            life.training_ends()
            period.ended_at = self._clock.now()
        return ending

    def _pause(self, job: TrainingJob, life: "_Life", period: Period, aws_seconds: float) -> "_CutShort | None":
        """Let time pass before there is a container; tell what cut that short."""
        until = time.monotonic() + self._clock.real_seconds(aws_seconds)
        while (left := until - time.monotonic()) > 0:
            with self._changed:
                self._wait(job, min(left, life.seconds_left), lambda: _is_lost(period))
            if job.is_stop_requested:
                return _CutShort(_Ending("Stopped"))
            if _is_lost(period):
                return _CutShort(self._after_loss(job))
            if life.seconds_left <= 0:
                return _CutShort(_Ending(life.limit))
        return None

    def _bring(self, job: TrainingJob, nodes: list[Node]) -> list[Mirror]:
        mirrors = []
        for node in nodes:
            node.make_folders()
            node.download_channels()
            if node.checkpoints is not None:
                random = Random(f"mirror {self._seed} {node.log_path.relative_to(self._work_dir)}")  # noqa: S311
                mirror = Mirror(
                    node.checkpoints,
                    job.request["CheckpointConfig"]["S3Uri"],
                    s3=self._surroundings.s3,
                    delay_seconds=self._clock.real_seconds(self._delays.mirror_seconds),
                    random=random,
                    is_stopped=self.mirrors_are_stopped,
                )
                mirror.restore()
                mirrors.append(mirror)
        return mirrors

    def _output_of(self, job: TrainingJob, index: int, path: Path) -> Callable[[str], None]:
        """Return what keeps a node's lines, and sends them where SageMaker's go: a stream for each start of a node."""
        shipper = self._surroundings.shipper
        stream = f"{job.name}/algo-{index + 1}-{self._clock.now_ms()}"

        def write(line: str) -> None:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            if shipper is not None:
                shipper.send(LOG_GROUP, stream, self._clock.now_ms(), line)

        return write

    def _run_containers(
        self, job: TrainingJob, life: "_Life", period: Period, nodes: list[Node], mirrors: list[Mirror]
    ) -> _Ending | None:
        waiters = []
        with self._changed:
            if self._is_stopping:
                raise _StoppedError
            for index, node in enumerate(nodes):
                mark = f"{self._emulation_id}/{job.name}-{len(job.periods)}-{index}"
                try:
                    node.make_container(mark=mark, on_line=self._output_of(job, index, node.log_path)).start()
                except OSError as error:
                    self._kill(nodes)
                    return _Ending("Failed", f"AlgorithmError: the container cannot be started: {error}")
                waiters.append(threading.Thread(target=self._wait_for, args=(node,), daemon=True))
                waiters[-1].start()
            self._move(job, "Training")
        for mirror in mirrors:
            mirror.start()
        try:
            ending, has_lost = self._follow(job, life, period, nodes)
        except _StoppedError:
            for mirror in mirrors:
                mirror.abandon()
            raise
        finally:
            self._kill(nodes)
        for waiter in waiters:
            waiter.join()
        for mirror in mirrors:
            (mirror.cut_off if has_lost else mirror.finish)()
            self.failures += mirror.failures
        if has_lost:
            return self._after_loss(job)
        return self._finish(job, nodes, ending)

    def _follow(
        self, job: TrainingJob, life: "_Life", period: Period, nodes: list[Node]
    ) -> tuple[_Ending | None, bool]:
        """Wait until the containers have ended or must; tell how, and whether because an instance was lost."""
        with self._changed:
            while True:
                self._wait(job, life.seconds_left, lambda: _is_lost(period) or _have_ended(nodes))
                if _is_lost(period):
                    return None, True
                if _have_ended(nodes):
                    return _failure(nodes), False
                if job.is_stop_requested or life.seconds_left <= 0:
                    ending = _Ending("Stopped" if job.is_stop_requested else life.limit)
                    break
            self._move(job, "Stopping")
            for node in nodes:
                if node.container is not None:
                    node.container.terminate()
            give_up = time.monotonic() + self._clock.grace_seconds(STOP_SECONDS)
            while not all(node.exit_code is not None for node in nodes) and (left := give_up - time.monotonic()) > 0:
                self._changed.wait(left)
                if self._is_stopping:
                    raise _StoppedError
            return ending, False

    def _finish(self, job: TrainingJob, nodes: list[Node], ending: _Ending | None) -> _Ending:
        if ending is not None and ending.status == "Failed":
            return ending
        self._move(job, "Uploading")
        archive = nodes[0].pack_model()
        if archive is not None:
            bucket, prefix = split_uri(job.request["OutputDataConfig"]["S3OutputPath"])
            key = f"{prefix.rstrip('/')}/{job.name}/output/model.tar.gz".lstrip("/")
            self._surroundings.s3.upload_file(str(archive), bucket, key)
            with self.lock:
                job.model_artifacts = f"s3://{bucket}/{key}"
        return ending or _Ending("Completed")

    def _after_loss(self, job: TrainingJob) -> _Ending | None:
        if job.is_spot:
            return None
        return _Ending("Failed", "InternalServerError: We encountered an internal error. Please try again.")

    def _wait_for(self, node: Node) -> None:
        if node.container is not None:
            code = node.container.wait()
            with self._changed:
                node.exit_code = code
                self._changed.notify_all()

    def _kill(self, nodes: list[Node]) -> None:
        for node in nodes:
            if node.container is not None:
                node.container.kill()

    def _wait(self, job: TrainingJob, seconds: float, is_news: Callable[[], bool]) -> None:
        """Wait, with the lock held, for news, a stop, the end of its wait or of time."""
        give_up = time.monotonic() + seconds
        while not (job.is_stop_requested or job.is_wait_over or self._is_stopping or is_news()):
            if (left := give_up - time.monotonic()) <= 0:
                break
            self._changed.wait(left)
        if self._is_stopping:
            raise _StoppedError

    def _move(self, job: TrainingJob, secondary_status: str) -> None:
        with self._changed:
            job.move(secondary_status, MESSAGES[secondary_status], self._clock.now())
            self._tell(job)
            self._changed.notify_all()


class _Life:
    """How much time a job has left, in real seconds: running counts towards both limits, waiting towards one."""

    def __init__(self, job: TrainingJob, clock: Clock, *, patience_seconds: float) -> None:
        self._job = job
        times = job.request.get("StoppingCondition") or {}
        now = time.monotonic()
        wait = times.get("MaxWaitTimeInSeconds")
        self._run_seconds = clock.real_seconds(times.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME_SECONDS))
        self._waits_until = now + clock.real_seconds(wait) if wait is not None else math.inf
        pending = times.get("MaxPendingTimeInSeconds", patience_seconds)
        self._launches_until = math.inf if job.is_spot else now + clock.real_seconds(pending)
        self._began: float | None = None

    @property
    def launch_seconds_left(self) -> float:
        """Until it is no longer tried to get instances."""
        return min(self._launches_until - time.monotonic(), self._wait_seconds_left)

    @property
    def run_seconds_left(self) -> float:
        """Until MaxRuntimeInSeconds is used up."""
        return self._run_seconds - (time.monotonic() - self._began if self._began is not None else 0.0)

    @property
    def seconds_left(self) -> float:
        """Until the first of the limits."""
        return min(self.run_seconds_left, self._wait_seconds_left)

    @property
    def _wait_seconds_left(self) -> float:
        """Until MaxWaitTimeInSeconds is used up."""
        return 0.0 if self._job.is_wait_over else self._waits_until - time.monotonic()

    @property
    def limit(self) -> str:
        """The secondary status of a job whose time is over."""
        return "MaxRuntimeExceeded" if self.run_seconds_left <= 0 else "MaxWaitTimeExceeded"

    def training_begins(self) -> None:
        """Let time count as running."""
        self._began = time.monotonic()

    def training_ends(self) -> None:
        """Let time count as waiting only."""
        self._run_seconds, self._began = self.run_seconds_left, None


def _is_lost(period: Period) -> bool:
    return any(instance.ended_at is not None for instance in period.instances)


def _have_ended(nodes: list[Node]) -> bool:
    """Tell whether all containers have ended, or one has failed, which ends the others."""
    return any(node.exit_code for node in nodes) or all(node.exit_code == 0 for node in nodes)


def _failure(nodes: list[Node]) -> _Ending | None:
    """Return how the job fails by the first node that has failed, if one has."""
    failed = next((node for node in nodes if node.exit_code), None)
    if failed is None:
        return None
    told = failed.failure
    reason = f"AlgorithmError: {told}{', ' if told else ''}exit code: {failed.exit_code}"
    return _Ending("Failed", reason[:_LONGEST_REASON])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
