"""The published 1,080 runs (ADRS, "cant-be-late"): 6 series of 2022, 30 windows, 2 deadlines, 3 changeovers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.policy.jobs import Job
from benchmarks.policy.traces import read_2022

_FIRST_TICK: Final = 3
"""The index counts from the original series; ours begin at its tick 3."""


def published_jobs(traces: Path) -> Iterator[Job]:
    """Yield the 1,080 jobs."""
    index = json.loads((traces / "adrs-cant-be-late" / "windows_1080.json").read_text())
    by_name = {series.name: series for series in read_2022(traces)}
    for name, windows in index["windows_[start,end)_ticks"].items():
        for start, _ in windows:
            for deadline_hours in index["deadline_hours"]:
                for changeover_hours in index["restart_overhead_hours"]:
                    yield Job(
                        series=by_name[name],
                        first_tick=start - _FIRST_TICK,
                        work_hours=index["task_hours"],
                        deadline_hours=deadline_hours,
                        changeover_hours=changeover_hours,
                    )
