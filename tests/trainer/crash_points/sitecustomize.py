"""Python imports this at the start of every process that has the folder in PYTHONPATH: it may die at a file operation.

CRASH_POINT = "NUMBER VICTIMS FOLDER": the writer process dies right before its file operation of that number below the
checkpoint folder, once; with VICTIMS "both" the process that trains dies with it. Only tests set it.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

FILE_OPERATIONS = {"open", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


def crash_at(number: int, victims: str, folder: str) -> None:
    root = os.environ["SPOTKEEPER_URI"]
    seen = count()

    def on_audit(event: str, arguments: tuple[object, ...]) -> None:
        if event not in FILE_OPERATIONS or not str(arguments[0]).startswith(root) or next(seen) != number:
            return
        crashed = Path(folder) / "crashed"
        if not crashed.exists():
            crashed.touch()
            if victims == "both":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_audit)


if "spotkeeper.trainer.writer" in sys.orig_argv and "CRASH_POINT" in os.environ:
    point, who, where = os.environ["CRASH_POINT"].split(" ", 2)
    crash_at(int(point), who, where)
