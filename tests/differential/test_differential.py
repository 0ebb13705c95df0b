"""What tests and the simulation believe of the ledger and the budgets is what the adapters do on an emulator.

Random sequences are done to both. Every result, every refusal and, at the end, every item is the same. What the
emulator cannot tell is said in emulator.py.
"""

import pytest

from tests.differential.emulator import Emulator
from tests.differential.planted_bugs import BUGS, planted
from tests.differential.sequences import Sides, compare, sequence, shrunk
from tests.differential.sides import beside, remembered, simulated

NUM_SEQUENCES, NUM_PARTS = 2000, 20
MOST_SEQUENCES = 300


@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_the_fakes_of_the_simulation_do_what_the_adapters_do(part: int, emulator: Emulator) -> None:
    check(range(part, NUM_SEQUENCES, NUM_PARTS), beside(simulated, emulator))


@pytest.mark.parametrize("part", range(3))
def test_the_fakes_of_the_control_tests_do_what_the_adapters_do(part: int, emulator: Emulator) -> None:
    check(range(NUM_SEQUENCES + part, NUM_SEQUENCES + 300, 3), beside(remembered, emulator))


def check(seeds: range, sides: Sides) -> None:
    for seed in seeds:
        difference = compare(sequence(seed), sides)
        if difference is not None:
            pytest.fail(f"seed {seed}, shrunk:\n{shrunk(difference, sides)}", pytrace=False)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_within_300_sequences(bug: str, emulator: Emulator) -> None:
    sides = beside(simulated, emulator)
    with planted(BUGS[bug], emulator.client):
        found = next((seed for seed in range(MOST_SEQUENCES) if compare(sequence(seed), sides)), None)
    assert found is not None, f"{bug}: nothing differs in {MOST_SEQUENCES} sequences"
    print(f"{bug}: found in sequence {found}")
