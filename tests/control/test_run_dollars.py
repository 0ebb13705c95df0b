"""The dollars of a run that has ended: every machine of each attempt, at what is known of its price."""

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
