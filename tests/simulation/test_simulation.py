"""The simulation itself: it finds nothing in what is shipped, everything that is planted, and the same every time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spotkeeper.control.observe import Outcome
from tests.simulation import faults
from tests.simulation.__main__ import main
from tests.simulation.found_at import FOUND_AT
from tests.simulation.many import quietly, simulate_all
from tests.simulation.mutants import MUTANTS
from tests.simulation.programs import Programs
from tests.simulation.shrink import report, rule_of, shrink
from tests.simulation.simulation import SHIPPED, Result, replay

ROOT = Path(__file__).parents[2]
SEEDS = range(300)
MUTANT_SEEDS = range(3000)


def first_failure(name: str, programs: Programs) -> Result | None:
    seeds = (*([FOUND_AT[name]] if name in FOUND_AT else []), *MUTANT_SEEDS)
    results = (quietly(seed, programs) for seed in seeds)
    return next((result for result in results if result.violation is not None), None)


def test_no_invariant_is_violated() -> None:
    assert simulate_all(SEEDS, processes=1).failed == ()


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_bug_is_found(name: str) -> None:
    assert first_failure(name, MUTANTS[name]().programs) is not None


def test_every_fault_and_every_end_of_a_run_comes_about() -> None:
    decided, ends = set(), ""
    for seed in SEEDS:
        result = quietly(seed, SHIPPED, trace=True)
        decided |= {str(value) for value in result.decisions.values()}
        ends += "\n".join(result.lines)
    tables = (faults.READ, faults.WRITE, faults.SUBMIT, faults.LOOK_UP, faults.STORE, faults.CLAIM, faults.SLOT)
    wanted = {
        str(value) for table in (*tables, faults.EVENT, faults.HOST, faults.CAPACITY, faults.BOOT) for value in table
    }
    assert wanted - decided == set()
    for sentence in (
        *("closed: succeeded", "closed: cancelled", "exit code 3", "no capacity", "time limit", "timed out"),
        *(
            "requeued: ",
            "waiting: ",
            "parked: ",
            "paused: ",
            "all submissions of this second are taken",
            "in 3 of at most 3 submissions",
        ),
        # What no run needs, an event alone can be.
        *("ignored: ", *(f"{outcome} 1" for outcome in Outcome if outcome is not Outcome.IGNORED)),
    ):
        assert sentence in ends, sentence
    for pattern in (
        r"array s-array\.a of 3 exists",
        r"s-array\.a:\d#\d+ +is fenced",
        r"s-array\.a:\d#\d+ +claims",
        r"job s-\d{4}-2\.a exists",
        r"job asking-2\.a exists",
    ):
        assert re.search(pattern, ends), pattern


def test_the_hash_seed_of_python_makes_no_difference() -> None:
    states = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "50", "--processes", "1"]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        states.add(ran.stdout.rpartition("state ")[2].strip())
    assert len(states) == 1


def test_what_was_recorded_happens_again() -> None:
    for seed in range(40):
        explored = quietly(seed, SHIPPED)
        assert replay(explored.decisions).digest == explored.digest, seed


def test_a_failing_seed_shrinks_to_a_schedule_that_fits_on_a_screen() -> None:
    programs = MUTANTS["cancelled-run-claimed"]().programs
    found = first_failure("cancelled-run-claimed", programs)
    assert found is not None

    shrunk = shrink(found, programs)

    assert rule_of(shrunk.violation) == "I10 cancel wins"
    assert len(shrunk.decisions) < len(found.decisions)
    assert all(rule_of(replay(rest, programs=programs).violation) is None for rest in one_left_out(shrunk))
    lines = report(shrunk)
    assert len(lines) < 60
    assert any("claims a cancelled run" in line for line in lines)
    # Of AWS Batch, or of SageMaker: it depends on the seed.
    assert any("exists" in line or "is Starting" in line for line in lines)


def one_left_out(result: Result) -> list[dict[str, object]]:
    return [{name: result.decisions[name] for name in result.decisions if name != left} for left in result.decisions]


def test_the_command_prints_the_schedule_of_a_planted_bug_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--mutant", "no-intent"]) == 1
    assert "violated: I1 no job without a run: r1-1 is submitted" in capsys.readouterr().out


def test_the_command_prints_what_happens_in_a_sound_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--trace"]) == 0
    printed = capsys.readouterr().out
    assert "job r1-1.a exists" in printed
    assert "no violation" in printed


@pytest.mark.parametrize("option", ["--seeds", "--processes"])
def test_a_simulation_of_nothing_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option, "0"])
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err
