import shlex
import sys
from pathlib import Path

import pytest

from spotkeeper.ops.invocation import Invocation, local_spotkeeper, python


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_a_hint_repeats_the_path_and_the_options_of_the_start() -> None:
    typed = Invocation(program=".venv/bin/spotkeeper", environment="dev", region="eu-west-1", is_local=True)

    assert (
        typed.pasteable("look: `spotkeeper status r`, or `spotkeeper cancel r`")
        == "look: `.venv/bin/spotkeeper --local --environment dev --region eu-west-1 status r`, "
        "or `.venv/bin/spotkeeper --local --environment dev --region eu-west-1 cancel r`"
    )


def test_a_command_that_the_shell_found_by_itself_is_named_without_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = executable(tmp_path / "bin" / "spotkeeper")
    monkeypatch.setenv("PATH", str(found.parent))

    assert Invocation(program=str(found)).pasteable("`spotkeeper status`") == "`spotkeeper status`"
    elsewhere = str(tmp_path / "spotkeeper")
    assert Invocation(program=elsewhere).pasteable("`spotkeeper status`") == f"`{elsewhere} status`"


def test_what_starts_an_emulation_is_a_path_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter = Path(sys.executable)
    sentence = "start one: `python -m emulation up`"

    monkeypatch.chdir(interpreter.parents[1])
    assert (
        Invocation(program="spotkeeper").pasteable(sentence) == f"start one: `bin/{interpreter.name} -m emulation up`"
    )
    assert local_spotkeeper() == "bin/spotkeeper --local"

    monkeypatch.chdir(tmp_path)
    assert python() == shlex.quote(str(interpreter))
