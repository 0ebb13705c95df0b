"""What an environment has settled about markets and money, as the control plane reads it from the descriptor."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from spotkeeper.contract import descriptor
from spotkeeper.contract.budgets import environment_holder, month_of, run_holder, sweep_holder, team_holder
from spotkeeper.contract.training import queue_of
from spotkeeper.control.budget import Limits
from spotkeeper.control.run import Run
from spotkeeper.policy.money import parse_usd
from spotkeeper.policy.placement import Market, Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTerms:
    """What a training job of a profile is made of, beside what its run says."""

    role_arn: str
    checkpoint_bucket: str
    ledger_table: str
    volume_gb: int
    starting_seconds: int
    """A spot job without machines for so long makes way for the next type."""
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    kms_key_arn: str | None = None
    is_isolated: bool = False
    encrypts_between_nodes: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileTerms:
    """Queues of a profile, and what its machines cost on demand."""

    spot_queue: str
    on_demand_queue: str
    usd_per_hour: Mapping[str, Decimal]
    """On-demand price by instance type, as far as it is known. A spot price is never above it."""
    spot_instance_types: tuple[str, ...]
    on_demand_instance_types: tuple[str, ...]
    training: TrainingTerms | None = None
    """None: the profile is one of AWS Batch."""

    def queue(self, market: Market) -> str:
        """Return the ARN of the market's queue."""
        return self.spot_queue if market is Market.SPOT else self.on_demand_queue

    def dearest_usd_per_hour(self, market: Market, *, num_nodes: int) -> Decimal | None:
        """Return the price of so many machines of the dearest type that AWS may choose; None if one is not known."""
        types = self.spot_instance_types if market is Market.SPOT else self.on_demand_instance_types
        if not types or any(name not in self.usd_per_hour for name in types):
            return None
        return num_nodes * max(self.usd_per_hour[name] for name in types)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentTerms:
    """All that decisions about runs of an environment need to know of it."""

    placement: Terms
    profiles: Mapping[str, ProfileTerms]
    limits: Limits
    """Caps of the environment, a month."""
    team_limits: Mapping[str, Limits]
    """Caps of teams, a month."""
    environment: str = ""
    """Its name; what is not submitted by the command line has to be told where it is."""
    teams: tuple[str, ...] = ()
    """Of the environment, for jobs that only say whose they are."""

    @classmethod
    def of(cls, described: descriptor.Descriptor) -> Self:
        """Read the terms of a descriptor."""
        placement = described.placement
        return cls(
            placement=Terms(
                fallback_after_seconds=placement.fallback_after_seconds,
                segment_seconds=placement.segment_seconds,
                standby_after_seconds=placement.standby_after_seconds,
                standby_age_seconds=placement.standby_age_seconds,
                standby_patience_seconds=placement.standby_patience_seconds,
            ),
            profiles={
                name: ProfileTerms(
                    spot_queue=profile.spot_queue,
                    on_demand_queue=profile.on_demand_queue,
                    usd_per_hour={type_: Decimal(price) for type_, price in profile.usd_per_hour.items()},
                    spot_instance_types=profile.spot_instance_types,
                    on_demand_instance_types=profile.on_demand_instance_types,
                )
                for name, profile in described.profiles.items()
            }
            | _training_profiles(described),
            limits=_limits(described.caps),
            team_limits={team: _limits(caps) for team, caps in described.team_caps.items()},
            environment=described.environment,
            teams=described.teams,
        )

    def place_of(self, queue: str) -> tuple[str, Market] | None:
        """Return profile and market of a queue; None for a queue that is not the environment's."""
        for name, profile in self.profiles.items():
            for market in Market:
                if queue == profile.queue(market):
                    return name, market
        return None

    def holders(self, run: Run, now: str) -> dict[str, Limits]:
        """Return whose budgets a run spends from now, with the caps of those that are not in the ledger yet."""
        month = month_of(now)
        holders = {
            run_holder(run.run_id): Limits(
                fallback_microusd=run.fallback_cap_microusd, total_microusd=run.total_cap_microusd
            ),
            team_holder(run.team, month): self.team_limits.get(run.team, Limits()),
            environment_holder(month): self.limits,
        }
        if run.sweep is not None:
            holders[sweep_holder(run.sweep)] = Limits(
                fallback_microusd=run.sweep_fallback_cap_microusd, total_microusd=run.sweep_total_cap_microusd
            )
        return holders

    def caps_total(self, run: Run, now: str) -> bool:
        """Tell whether the settings, or the run itself, cap the total of somebody whom it spends of."""
        return any(limits.total_microusd is not None for limits in self.holders(run, now).values())


def _training_profiles(described: descriptor.Descriptor) -> dict[str, ProfileTerms]:
    training = described.training
    if training is None:
        return {}
    return {
        name: ProfileTerms(
            spot_queue=queue_of(name, Market.SPOT),
            on_demand_queue=queue_of(name, Market.ON_DEMAND),
            usd_per_hour={type_: Decimal(price) for type_, price in profile.usd_per_hour.items()},
            spot_instance_types=profile.spot_instance_types,
            on_demand_instance_types=profile.on_demand_instance_types,
            training=TrainingTerms(
                role_arn=training.role_arn,
                checkpoint_bucket=described.checkpoint_bucket,
                ledger_table=described.ledger_table,
                volume_gb=profile.volume_gb,
                starting_seconds=training.starting_seconds,
                subnet_ids=training.subnet_ids,
                security_group_ids=training.security_group_ids,
                kms_key_arn=training.kms_key_arn,
                is_isolated=training.is_isolated,
                encrypts_between_nodes=training.encrypts_between_nodes,
            ),
        )
        for name, profile in training.profiles.items()
    }


def _limits(caps: descriptor.Caps) -> Limits:
    def read(text: str | None) -> int | None:
        return None if text is None else parse_usd(text, what="a cap of the environment's descriptor")

    return Limits(fallback_microusd=read(caps.fallback_usd), total_microusd=read(caps.total_usd))
