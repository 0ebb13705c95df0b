"""The same training, left in peace: what the interrupted run must equal, byte for byte."""

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from emulation.batch.processes import MARK, Reaper
from emulation.demo.final_state import FinalState
from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.checkpoint_layout import COMMIT_PREFIX

RUN_ID = "uninterrupted"


class UninterruptedRun:
    """A plain process that trains on this machine into a local folder, at low priority beside the emulation."""

    def __init__(self, command: tuple[str, ...], *, program_folder: Path, work_dir: Path) -> None:
        self._folder = work_dir / "checkpoints"
        self._log_path = work_dir / "output.log"
        work_dir.mkdir(parents=True, exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOTKEEPER")}
        environ |= {
            variables.CHECKPOINT_URI: str(self._folder),
            variables.RUN_ID: RUN_ID,
            # Without it the library would look for a metadata service.
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            # torch leaves a cache folder behind.
            "TMPDIR": str(work_dir),
        }
        emulation_id = f"uninterrupted-{secrets.token_hex(8)}"
        environ[MARK] = f"{emulation_id}/"
        self._reaper = Reaper(emulation_id)  # ends the training even if the demo itself is killed
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command[1:]],
                cwd=program_folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        with suppress(ProcessLookupError):  # it may have ended
            os.setpriority(os.PRIO_PROCESS, self._process.pid, 5)

    def wait(self, timeout_seconds: float) -> None:
        """Wait for the end.

        Raises:
            RuntimeError: if it fails, with the end of its output; or if it takes too long.
        """
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the uninterrupted training did not end within {timeout_seconds:.0f} s") from None
        if code != 0:
            tail = "\n".join(self._log_path.read_text(errors="replace").splitlines()[-10:])
            raise RuntimeError(f"the uninterrupted training exited {code}:\n{tail}")

    def stop(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reaper.stop()

    def final_state(self) -> FinalState:
        """Return what it ended with."""
        manifests = [path.relative_to(self._folder).as_posix() for path in self._folder.glob(f"{COMMIT_PREFIX}*/*")]
        return FinalState.read(manifests, RUN_ID, lambda key: (self._folder / key).read_bytes())
