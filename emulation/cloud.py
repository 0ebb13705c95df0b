"""AWS on one machine, put together: endpoint, deployment, spot market, Batch, SageMaker, events and functions."""

import importlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import boto3

from emulation import aws
from emulation.batch.batch_api import BatchService
from emulation.batch.processes import Reaper
from emulation.clock import Clock, check_speed
from emulation.ec2.market import SpotMarket
from emulation.ec2.traces import Trace
from emulation.events.functions import FunctionHost, host_functions
from emulation.events.pollers import Poller
from emulation.events.router import Event, Router, deliver_once
from emulation.sagemaker.training_api import TrainingService
from emulation.server import Server
from emulation.templates.assembly import Assembly, synthesize
from emulation.templates.deployment import Deployment
from emulation.templates.load import LoadReport, load, location


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """How the emulated world behaves; equal conditions give an equal world."""

    seed: int = 0
    """Decides prices, names and whatever else AWS would decide."""
    speed: float = 1.0
    """AWS seconds that pass in one real second."""
    trace: Trace | None = None
    """Spot availability, played in every zone that jobs may use; None: capacity everywhere, always."""
    faults: Callable[[Event], Sequence[Event]] = deliver_once
    """Which events are lost or duplicated (see `emulation.events.router`)."""
    entrypoint: tuple[str, ...] = ()
    """What the image's ENTRYPOINT puts before every job's command."""

    def __post_init__(self) -> None:
        """Refuse a speed before anything is said to start."""
        check_speed(self.speed)


class Cloud:
    """A deployed environment that answers AWS's API. Use it as a context manager, or call `stop`.

    Args:
        environment: A name in `stacks.environments`.
        work_dir: New or empty; takes everything that is written: the cloud assembly, functions, jobs and logs.
        port: Of the endpoint; 0 takes any free one.
        conditions: How the world behaves.
        assembly: Deploy this one instead of synthesizing.

    Raises:
        ValueError: if there is no such environment, the port is taken, `work_dir` is not empty, or a condition is out
            of range.
        LoadError: if a template could not be loaded as it is.
        OSError: if `work_dir` cannot be written.
        RuntimeError: if this process already runs an emulation.
    """

    def __init__(
        self,
        environment: str = "dev",
        *,
        work_dir: Path,
        port: int = 0,
        conditions: Conditions | None = None,
        assembly: Assembly | None = None,
    ) -> None:
        self._stops: list[Callable[[], None]] = []
        try:
            self._start(environment, work_dir, port, conditions or Conditions(), assembly)
        except BaseException:
            self.stop()
            raise

    deployment: Deployment
    """What was deployed."""
    report: LoadReport
    """How that differs from the templates."""
    market: SpotMarket
    """Give and take capacity here."""
    batch: BatchService
    """Jobs and their attempts."""
    training: TrainingService
    """Training jobs of SageMaker."""
    router: Router
    """Publish events here, and see what was delivered."""
    functions: dict[str, FunctionHost]
    """Lambda functions by name."""
    pollers: tuple[Poller, ...]
    """What feeds the functions from their queues."""
    clock: Clock
    """The emulation's time."""
    region: str
    endpoint_url: str
    """`http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL."""
    session: boto3.Session
    """Credentials and region; pass `endpoint_url` to its clients."""

    def _start(
        self, environment: str, work_dir: Path, port: int, conditions: Conditions, assembly: Assembly | None
    ) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        if any(work_dir.iterdir()):
            raise ValueError(f"{work_dir} is not empty: give a new or an empty folder to write to")
        # First what can be refused at once, then the seconds of synthesis.
        self.clock = Clock(conditions.speed)
        self._stops.append(self.clock.stop)
        self._server = server = Server(port=port, seed=conditions.seed)
        self._stops.append(server.stop)
        self.endpoint_url = server.endpoint_url
        assembly = assembly or _synthesize(environment, work_dir / "assembly")
        server.account, self.region = location(assembly)
        self.session = aws.session(self.region)
        clients = aws.connect(server.endpoint_url, self.region)
        self.deployment, self.report = load(
            assembly,
            clients,
            environment=environment,
            speed=conditions.speed,
            failures=lambda: server.failures,
        )
        server.deployment = self.deployment
        self._start_functions(clients, work_dir / "functions")
        self._start_events(clients, conditions)
        self.market = SpotMarket(clock=self.clock, seed=conditions.seed)
        self.batch = BatchService(
            deployment=self.deployment,
            market=self.market,
            clock=self.clock,
            publish=self.router.publish,
            endpoint_url=server.endpoint_url,
            work_dir=work_dir / "jobs",
            entrypoint=conditions.entrypoint,
            seed=conditions.seed,
        )
        self._stops.append(self.batch.stop)
        server.job_operations = self.batch
        zones = sorted({zone for hosts in self.deployment.compute_environments.values() for zone in hosts.zones})
        self.training = TrainingService(
            place=self.deployment,
            zones=zones,
            market=self.market,
            clock=self.clock,
            publish=self.router.publish,
            endpoint_url=server.endpoint_url,
            work_dir=work_dir / "training",
            entrypoint=conditions.entrypoint,
            seed=conditions.seed,
        )
        self._stops.append(self.training.stop)
        server.training_operations = self.training
        if conditions.trace is not None:
            self.market.play(dict.fromkeys(zones, conditions.trace))

    def _start_functions(self, clients: aws.Aws, work_dir: Path) -> None:
        # Names the processes, so it must differ between emulations that run at the same time.
        emulation_id = secrets.token_hex(8)
        self._stops.append(Reaper(emulation_id).stop)
        self.functions = host_functions(
            self.deployment.functions.values(),
            s3=clients.s3,
            environment={
                "AWS_ENDPOINT_URL": self.endpoint_url,
                "AWS_REGION": self.region,
                "AWS_DEFAULT_REGION": self.region,
                "AWS_ACCESS_KEY_ID": aws.ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": aws.SECRET_KEY,
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            work_dir=work_dir,
            emulation_id=emulation_id,
            clock=self.clock,
        )
        self.pollers = tuple(
            Poller(
                source,
                self.deployment.queues[source.queue_arn],
                self.functions[source.function_name],
                sqs=clients.sqs,
                region=self.region,
                clock=self.clock,
            )
            for source in self.deployment.event_sources
            if source.enabled
        )
        self._stops.append(self._stop_functions)
        for poller in self.pollers:
            poller.start()

    def _stop_functions(self) -> None:
        for poller in self.pollers:
            poller.stop()
        for host in self.functions.values():
            host.close()
        for poller in self.pollers:
            poller.join()

    def _start_events(self, clients: aws.Aws, conditions: Conditions) -> None:
        pollers: dict[str, list[Poller]] = {}
        for poller in self.pollers:
            pollers.setdefault(poller.queue_arn, []).append(poller)

        def wake(queue_arn: str) -> None:
            for poller in pollers.get(queue_arn, ()):
                poller.wake()

        self.router = Router(self.deployment, clients.sqs, self.clock, faults=conditions.faults, on_delivery=wake)
        self._stops.append(self.router.stop)
        self.router.start_schedules()

    @property
    def failures(self) -> tuple[str, ...]:
        """What the emulation itself could not do, a line each. A run that leaves any has proved nothing."""
        return (
            *(f"{failure.request}: {failure.error}" for failure in self._server.failures),
            *(f"{poller.queue_arn}: {error}" for poller in self.pollers for error in poller.failures),
            *(f"{type(error).__name__}: {error}" for error in (*self.batch.failures, *self.training.failures)),
        )

    @property
    def function_errors(self) -> tuple[str, ...]:
        """Invocations of functions that raised or timed out, a line each; their messages were delivered again."""
        return tuple(str(error) for poller in self.pollers for error in poller.function_errors)

    def stop(self) -> None:
        """Stop everything, jobs first and the endpoint last, within about a second. A second call does nothing."""
        while self._stops:
            self._stops.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _synthesize(environment: str, out: Path) -> Assembly:
    """Synthesize in a process of its own while this one loads moto's CloudFormation, which takes as long."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        synthesis = pool.submit(synthesize, environment, out)
        importlib.import_module("moto.cloudformation.responses")
        return synthesis.result()
