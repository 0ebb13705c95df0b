from pathlib import Path

import pytest

from emulation.templates.assembly import synthesize

APP = """
import sys, tempfile
tempfile.mkdtemp(prefix="jsii-kernel-")
sys.exit("ended in the middle")
"""


def test_what_an_interrupted_synthesis_leaves_in_the_temporary_folder_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "tmp"
    machine.mkdir()
    monkeypatch.setenv("TMPDIR", str(machine))
    app = tmp_path / "app.py"
    app.write_text(APP)

    with pytest.raises(ValueError, match="ended in the middle"):
        synthesize("dev", tmp_path / "out" / "assembly", app=app)

    assert list(machine.iterdir()) == []
    assert list((tmp_path / "out").iterdir()) == []
