"""Commits checkpoints in forks of one process, so that a killed one costs no import: python -m tests.trainer.s3_saver.

Reads the step of the next checkpoint from each line, saves and commits in a process of its own, and prints how that
ended: 0, or the negative number of the signal that killed it. The size of a checkpoint stands in CHECKPOINT_BYTES.
"""

import os
import sys
import traceback

from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.s3_store import S3Store

RUN = "tiny"


def content(step: int, size: int) -> bytes:
    """Return what the checkpoint of the step holds."""
    return (b"%012d" % step) * (size // 12)


def save(step: int) -> None:
    """Commit the checkpoint of a step, as an attempt of its own."""
    os.environ["AWS_SDK_UA_APP_ID"] = str(os.getpid())
    checkpoints = Checkpoints(S3Store(os.environ["CHECKPOINT_BUCKET"], ""), run_id=RUN, keep=2, epoch=None)
    tensors = content(step, int(os.environ["CHECKPOINT_BYTES"]))
    stored = checkpoints.write_data(step=step, chunks=[memoryview(tensors)], total_bytes=len(tensors))
    checkpoints.commit(step=step, cause="periodic", stored=stored, state={"step": step})


def main() -> None:
    """Serve until standard input ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                save(int(line))
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
