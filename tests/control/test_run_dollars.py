"""The dollars of a run that has ended: every machine of each attempt, at what is known of its price."""

from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.control.run import Attempt
from spotkeeper.control.run_dollars import RunDollars, dollars
from tests.control.fakes import MemoryLedger, memory_ports
from tests.control.reconciled import after
from tests.control.training import TRAINING_TERMS, TYPES, training_run


@pytest.mark.parametrize(
    ("num_nodes", "market", "expected"),
    [
        (1, "spot", RunDollars(spot_usd=0.5, on_demand_equivalent_usd=0.5)),
        (4, "spot", RunDollars(spot_usd=2.0, on_demand_equivalent_usd=2.0)),
        (4, "on-demand", RunDollars(on_demand_usd=2.0, on_demand_equivalent_usd=2.0)),
    ],
)
def test_each_node_of_an_attempt_costs_what_its_type_costs(num_nodes: int, market: str, expected: RunDollars) -> None:
    ledger = MemoryLedger()
    run = ledger.create(training_run(num_nodes=num_nodes))
    attempt = Attempt(run_id=run.run_id, submission=1, attempt=1, market=market, instance_type=TYPES[0])
    ledger.record_attempt(attempt, started_at=after(0), stopped_at=after(60))

    assert dollars(run, ports=memory_ports(ledger, terms=TRAINING_TERMS), now=after(70)) == expected


@pytest.mark.parametrize(
    ("market", "billed_minutes", "expected"),
    [
        # All of 40 minutes' machines, as they cost on demand; a quarter of that is billed.
        ("spot", 10, RunDollars(spot_usd=0.25, on_demand_equivalent_usd=1.0)),
        # What comes before the containers is billed too.
        ("on-demand", 50, RunDollars(on_demand_usd=1.25, on_demand_equivalent_usd=1.25)),
    ],
)
def test_a_job_of_sagemaker_costs_what_is_billed_and_ec2_is_not_asked_for_its_price(
    market: str, billed_minutes: int, expected: RunDollars
) -> None:
    class NobodyAsks:
        def read(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("EC2 has no price of SageMaker's machines")

    ledger = MemoryLedger()
    run = ledger.create(training_run(num_nodes=3))
    first = Attempt(run_id=run.run_id, submission=1, attempt=1, market=market, instance_type=TYPES[0])
    ledger.record_attempt(first, started_at=after(0), stopped_at=after(10))
    ledger.record_attempt(
        replace(first, attempt=2), started_at=after(20), stopped_at=after(50), job_billed_seconds=billed_minutes * 60
    )
    ports = replace(memory_ports(ledger, terms=TRAINING_TERMS), spot_prices=NobodyAsks())

    found = dollars(run, ports=ports, now=after(70))

    for name in ("spot_usd", "on_demand_usd", "on_demand_equivalent_usd"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
