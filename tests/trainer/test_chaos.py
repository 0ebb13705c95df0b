"""ckpt-chaos, a judge from outside: it kills a program right before one of its file operations, starts it again, and
compares where that resumed and what came of it with what a program leaves that nobody disturbed."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.trainer.conftest import REPOSITORY, clean_environ

PLAIN = f"{sys.executable} {REPOSITORY}/tests/trainer/plain_training.py"
EXEC = f"{sys.executable} -m spotkeeper.trainer.exec --checkpoint-folder $0/saves -- "
LATER_HOST = "test -d $0 || { mkdir $0 && cp -r $1 $0/kept; }; SPOTKEEPER_URI=$0/kept "
"""It has what the run has committed so far, and no checkpoint folder."""
COMMITS = "--step-regex=" + r'"event":"(?:resumed|started)".*?"step":(\d+)'


def judge(work: Path, command: list[str], *options: str, max_points: int, modes: str) -> Counter[str]:
    """Return the verdicts on `max_points` crashes and on a run without one, which is killed nowhere."""
    judging = [sys.executable, "-m", "ckpt_chaos", "run", f"--work={work}", f"--modes={modes}", "--jobs=2"]
    done = subprocess.run(
        [*judging, f"--max-points={max_points}", *options, "--", *command],
        env=clean_environ(SPOTKEEPER_RUN_ID="tiny"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert "3/3 judging" in output, output
    # What was not killed where it should have been proves nothing. (That names in our folders drift is meant to be so.)
    assert "DID NOT CRASH" not in output, output
    print(output)
    verdicts = Counter(re.findall(r"  (PASS|[A-Z]+_[A-Z]+)(?:  \[PLAN DRIFT\])?$", output, re.MULTILINE))
    assert verdicts.total() == max_points + 1
    return verdicts


def test_wherever_the_process_that_writes_checkpoints_is_killed_nothing_is_lost(tmp_path: Path) -> None:
    command = ["env", "CKPT_CHAOS_ARMED=1", sys.executable, "-m", "tests.trainer.chaos_training", "{out}"]
    options = ["--checkpoint-glob={out}/commit/*/*.json", COMMITS, "--result-file={out}/result"]

    verdicts = judge(tmp_path / "work", command, *options, max_points=6, modes="before")

    assert verdicts == {"PASS": 7}


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an attempt of the plain program under `spotkeeper-exec` leaves in the store after three steps."""
    host = tmp_path_factory.mktemp("host")
    script = f"SPOTKEEPER_URI=$0/kept {EXEC} {PLAIN} $0/saves 3"
    subprocess.run(["sh", "-c", script, host], env=clean_environ(SPOTKEEPER_RUN_ID="tiny"), cwd=REPOSITORY, check=True)
    return host / "kept"


@pytest.mark.parametrize(
    ("victim", "script", "max_points", "modes"),
    [
        ("the program", f"CKPT_CHAOS_ARMED=1 exec {EXEC} env -u CKPT_CHAOS_ARMED {PLAIN}", 4, "before,torn"),
        ("spotkeeper-exec", f"exec {EXEC} {PLAIN}", 5, "before"),
    ],
)
def test_a_program_that_saves_over_its_only_file_loses_nothing_under_spotkeeper_exec(
    tmp_path: Path, committed: Path, victim: str, script: str, max_points: int, modes: str
) -> None:
    command = ["sh", "-c", f"{LATER_HOST} {script} $0/saves 6", "{out}", str(committed)]
    options = ["--checkpoint-glob={out}/kept/commit/*/*.json", COMMITS, "--result-file={out}/saves/last.pt"]

    verdicts = judge(tmp_path / "work", command, *options, max_points=max_points, modes=modes)

    assert verdicts == {"PASS": max_points + 1}, victim


def test_the_same_program_alone_cannot_be_resumed(tmp_path: Path) -> None:
    command = ["sh", "-c", f"exec {PLAIN} $0/saves 3", "{out}"]

    verdicts = judge(tmp_path / "work", command, "--result-file={out}/saves/last.pt", max_points=2, modes="torn")

    assert verdicts == {"PASS": 1, "HARD_FAIL": 2}
