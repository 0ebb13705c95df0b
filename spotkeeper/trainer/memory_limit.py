"""How much memory this process may still take: what the container leaves, and what the machine has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")
UNKNOWN_BYTES: Final = 1 << 62
"""Where nobody says, there is no reason to save memory."""


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Return the bytes that can be taken before something is killed for it.

    The page cache does not count as taken: the kernel gives it back before it kills
    (docs.kernel.org/admin-guide/cgroup-v2.html, memory.stat: inactive_file).
    """
    return min(_left_in_container(cgroup), _left_on_machine(meminfo))


def _left_in_container(cgroup: Path) -> int:
    for folder, limit, usage, stat in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _number(folder / limit), _number(folder / usage)
        if most is not None and taken is not None:
            cache = _fields(folder / "memory.stat").get(stat, 0)
            return max(0, most - taken + cache)
    return UNKNOWN_BYTES


def _left_on_machine(meminfo: Path) -> int:
    kib = _fields(meminfo).get("MemAvailable:")
    return UNKNOWN_BYTES if kib is None else kib * 1024


def _number(path: Path) -> int | None:
    """Return the number in the file; None where there is no file, or it says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _fields(path: Path) -> Mapping[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
