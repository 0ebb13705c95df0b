"""What each Python that a test starts begins with: its folder is on PYTHONPATH, and Python imports this by itself.

A program of the tests loads torch, works for a moment and ends. Of the 1.4 s that the first and the last take, 0.4 s go
to searches for garbage in what stays to the end, and 0.1 s to threads of OpenBLAS that wait for work.
"""

import atexit
import gc
import os

gc.set_threshold(50_000, 20, 100)
atexit.register(gc.freeze)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
