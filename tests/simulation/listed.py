"""The order of a listing, and what stands behind one of its entries, which need not be listed any more."""

from collections.abc import Iterable

from spotkeeper.control.listing import Listed


def in_order(entries: Iterable[Listed], behind: Listed | None) -> list[Listed]:
    """Return the entries oldest first, or those behind one."""
    return sorted((entry for entry in entries if behind is None or _place(entry) > _place(behind)), key=_place)


def _place(entry: Listed) -> tuple[str, str, int]:
    return entry.created_at, entry.run_id, entry.submission or 0
