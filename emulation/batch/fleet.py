"""The EC2 instances that Batch holds: launched for a compute environment, given back or lost."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from emulation.clock import Clock
from emulation.ec2 import prices
from emulation.ec2.imds import InstanceMetadata, Silence
from emulation.ec2.market import Instance, SpotMarket
from emulation.events.aws_events import EventSender
from emulation.templates.deployment import ComputeEnvironment, Deployment


@dataclass(kw_only=True, slots=True, eq=False)
class Host:
    """An instance as a member of a compute environment."""

    instance: Instance
    environment: ComputeEnvironment
    vcpus: int
    metadata: InstanceMetadata
    metadata_endpoint: str
    """Where containers ask for the instance's metadata; nothing answers there if the hop limit is too low."""
    container_instance_arn: str
    is_lost: bool = False
    """EC2 has taken the instance away."""


class HostUser(Protocol):
    """Who uses the hosts. Called without any of the fleet's locks."""

    def capacity_changed(self) -> None:
        """Say that a launch that was refused may now succeed."""

    def host_up(self, host: Host) -> None:
        """Say that a host has booted."""

    def host_lost(self, host: Host) -> None:
        """Say that a host is gone, with everything on it."""


class Fleet:
    """Launches instances, boots them, tells them and EventBridge what the market decides.

    Args:
        deployment: Account and region.
        market: Where instances come from.
        clock: Shortens booting.
        events: Takes what EC2 has to say.
        boot_seconds: AWS seconds from launch to registration with the cluster.
        seed: Decides ARNs.
        user: Who is told what becomes of the hosts.
    """

    def __init__(
        self,
        *,
        deployment: Deployment,
        market: SpotMarket,
        clock: Clock,
        events: EventSender,
        boot_seconds: float,
        seed: int,
        user: HostUser,
    ) -> None:
        self._deployment = deployment
        self._market = market
        self._clock = clock
        self._events = events
        self._boot_seconds = boot_seconds
        self._random = Random(f"container instances {seed}")  # noqa: S311  not for secrets
        self._user = user
        self._lock = threading.Lock()
        self._hosts: dict[str, Host] = {}
        self._silence = Silence()
        market.attach(self)

    def launch(self, environment: ComputeEnvironment, instance_types: Sequence[str]) -> Host | None:
        """Launch one of these types for a compute environment; None if the market has none of them."""
        with self._lock:
            instance = self._market.launch(instance_types, environment.zones, environment.market)
            if instance is None:
                return None
            region, account = self._deployment.region, self._deployment.account
            cluster = f"AWSBatch-{environment.name}"
            metadata = InstanceMetadata(instance, account=account, region=region)
            host = Host(
                instance=instance,
                environment=environment,
                vcpus=prices.instance_type(instance.type).vcpus,
                metadata=metadata,
                metadata_endpoint=(metadata if environment.metadata_reaches_containers else self._silence).endpoint,
                container_instance_arn=f"arn:aws:ecs:{region}:{account}:container-instance/{cluster}/"
                f"{self._random.getrandbits(128):032x}",
            )
            self._hosts[instance.id] = host
        self._events.instance_state_changed(instance, "pending")
        self._clock.after(self._clock.real_seconds(self._boot_seconds), partial(self._boot, host))
        return host

    def give_back(self, host: Host) -> None:
        """Terminate an instance, unless EC2 has it already or is about to take it: then EC2 ends it, for less money."""
        if host.instance.noticed_at is not None or self._remove(host.instance) is None:
            return
        self._events.instance_state_changed(host.instance, "shutting-down")
        self._market.terminate(host.instance.id)
        host.metadata.close()
        self._events.instance_state_changed(host.instance, "terminated")

    def used_vcpus(self, environment_arns: Iterable[str]) -> int:
        """Return the vCPUs of the instances that these compute environments have now."""
        arns = set(environment_arns)
        with self._lock:
            return sum(host.vcpus for host in self._hosts.values() if host.environment.arn in arns)

    def stop(self) -> None:
        """Terminate all instances, and say nothing of it."""
        with self._lock:
            hosts = list(self._hosts.values())
            self._hosts.clear()
        for host in hosts:
            self._market.terminate(host.instance.id)
            host.metadata.close()
        self._silence.close()

    def capacity_changed(self) -> None:
        """Hear it from the market."""
        self._user.capacity_changed()

    def rebalance_recommended(self, instance: Instance) -> None:
        """Hear it from the market; tell the instance and EventBridge."""
        with self._lock:
            host = self._hosts.get(instance.id)
        if host is not None:
            host.metadata.recommend_rebalance(self._clock.now())
            self._events.rebalance_recommendation(instance)

    def interruption_noticed(self, instance: Instance) -> None:
        """Hear it from the market; tell the instance and EventBridge."""
        with self._lock:
            host = self._hosts.get(instance.id)
        if host is not None and instance.deadline is not None:
            host.metadata.give_notice(instance.deadline)
            self._events.interruption_warning(instance)

    def host_lost(self, instance: Instance) -> None:
        """Hear it from the market; tell the user and EventBridge."""
        host = self._remove(instance)
        if host is not None:
            host.is_lost = True
            self._events.instance_state_changed(instance, "shutting-down")
            self._user.host_lost(host)
            host.metadata.close()
            self._events.instance_state_changed(instance, "terminated")

    def _boot(self, host: Host) -> None:
        with self._lock:
            if host.instance.id not in self._hosts:
                return
        self._events.instance_state_changed(host.instance, "running")
        self._user.host_up(host)

    def _remove(self, instance: Instance) -> Host | None:
        with self._lock:
            return self._hosts.pop(instance.id, None)
