"""The demo as the README gives it: real training, real interruptions, every promise checked by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(("service", "num_promises"), [("batch", 13), ("sagemaker", 7)])
def test_the_demo_keeps_every_promise_and_leaves_nothing_behind(
    service: str, num_promises: int, tmp_path: Path
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS", "SPOTKEEPER"))}

    told = subprocess.run(
        [sys.executable, "-m", "emulation", "demo", "--seed", "11", "--on", service],
        cwd=REPOSITORY,
        env={**environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("  kept   ") == num_promises
    assert "bit-identical" in told.stdout
    assert list(tmp_path.iterdir()) == []
