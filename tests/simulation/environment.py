"""What the simulated environment has settled about markets and money, and what its machines really cost."""

from decimal import Decimal
from typing import Final

from spotkeeper.control.budget import Limits
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms, TrainingTerms
from spotkeeper.policy.placement import Terms
from tests.simulation import training
from tests.simulation.batch import ON_DEMAND_QUEUE, SPOT_QUEUE

ON_DEMAND_USD_PER_HOUR: Final = Decimal("1.0")
TEARDOWN_SECONDS: Final = 600.0
"""What EC2 bills of a host after Batch had use for it. What it bills before is from the launch of the host on."""


def terms_with(
    month_fallback_microusd: int, month_total_microusd: int | None, *, is_isolated: bool = False
) -> EnvironmentTerms:
    """Return the terms of an environment that may spend so much on on-demand, and in all, in a month.

    `is_isolated`: its training jobs reach no network.
    """
    return EnvironmentTerms(
        placement=Terms(
            fallback_after_seconds=1800,
            segment_seconds=3000,
            standby_after_seconds=300,
            standby_age_seconds=300,
            standby_patience_seconds=1800,
        ),
        profiles={
            "cpu": ProfileTerms(
                spot_queue=SPOT_QUEUE,
                on_demand_queue=ON_DEMAND_QUEUE,
                usd_per_hour={"m6i.xlarge": ON_DEMAND_USD_PER_HOUR, "m6a.xlarge": Decimal("0.9")},
                spot_instance_types=("m6a.xlarge", "m6i.xlarge"),
                on_demand_instance_types=("m6a.xlarge", "m6i.xlarge"),
            ),
            training.PROFILE: ProfileTerms(
                spot_queue=training.SPOT_QUEUE,
                on_demand_queue=training.ON_DEMAND_QUEUE,
                usd_per_hour={
                    "ml.m5.xlarge": ON_DEMAND_USD_PER_HOUR,
                    "ml.m5a.xlarge": Decimal("0.9"),
                    "ml.m4.xlarge": ON_DEMAND_USD_PER_HOUR,
                },
                spot_instance_types=training.SPOT_TYPES,
                on_demand_instance_types=("ml.m5a.xlarge", "ml.m5.xlarge"),
                training=TrainingTerms(
                    role_arn="arn:aws:iam::123456789012:role/training",
                    checkpoint_bucket="checkpoints",
                    ledger_table="ledger",
                    volume_gb=50,
                    starting_seconds=training.STARTING_SECONDS,
                    is_isolated=is_isolated,
                ),
            ),
        },
        limits=Limits(fallback_microusd=month_fallback_microusd, total_microusd=month_total_microusd),
        team_limits={},
        environment="dev",
    )
