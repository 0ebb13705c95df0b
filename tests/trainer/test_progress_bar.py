"""On a terminal: a pseudo-terminal, and a program in it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import REPOSITORY, clean_environ

PROGRAM = """
import spotkeeper
from torch import nn
from tests.trainer.tiny_training import Noisy
run = spotkeeper.Run(model=nn.Linear(2, 2))
for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=7):
    run.log(loss=0.25)
    if step == 3:
        print("the program's own")
        {at_step_3}
"""
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def shown_on_a_terminal(folder: Path, at_step_3: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    environ = clean_environ(SPOTKEEPER_URI=str(folder), TERM="xterm-256color", COLUMNS="200")
    command = [sys.executable, "-c", PROGRAM.format(at_step_3=at_step_3)]
    shown = b""
    with subprocess.Popen(
        command, env=environ, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # how Linux tells that the other side has closed
        finally:
            os.close(ours)
    return process.returncode, shown.decode()


def test_a_person_sees_a_bar_instead_of_progress_lines(tmp_path: Path) -> None:
    code, shown = shown_on_a_terminal(tmp_path, "pass")

    assert code == 0, shown
    assert "7/7" in shown
    assert "loss 0.25" in shown
    assert "the program's own" in shown
    assert '"event":"progress"' not in shown
    assert '"event":"committed"' in shown


@pytest.mark.parametrize("at_step_3", ["pass", "raise ZeroDivisionError", "break"])
def test_however_the_program_ends_the_terminal_has_its_cursor_back(tmp_path: Path, at_step_3: str) -> None:
    _, shown = shown_on_a_terminal(tmp_path, at_step_3)

    assert shown.rfind(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR) >= 0
