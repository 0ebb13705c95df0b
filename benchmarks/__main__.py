"""Run every benchmark, one after another."""

import sys

from benchmarks import checkpoint, demo, open_runs, setup_size, storm

if __name__ == "__main__":
    failed = False
    setup_size.main()
    open_runs.main()
    checkpoint.main([])
    for benchmark in (storm.main, demo.main):
        try:
            benchmark()
        except SystemExit as end:
            failed = failed or bool(end.code)
    sys.exit(failed)
