"""Go round a listing that may be longer than one sweep has time for.

A sweep goes on behind the entry at which the one before it stopped, to the end, and from the beginning to where it
began. So each entry has its turn once in a sweep while there is time for all, and once in a round whatever the time.
How far it came is recorded before a page is worked on: a page that ends the program is not the one with which every
later sweep begins and ends, and what was left of it has its turn in the next round.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.ports import Ledger

PAGE: Final = 100
"""Entries that AWS reads, or describes, in one call."""


class Round:
    """One sweep's way over a listing.

    Args:
        listing: Its name.
        entries: Returns its entries behind one of them, or all of them; oldest first.
        ledger: Keeps the position.
        clock: Returns the time, ISO 8601, UTC.
    """

    def __init__(
        self,
        listing: str,
        entries: Callable[[Listed | None], Iterator[Listed]],
        *,
        ledger: Ledger,
        clock: Callable[[], str],
    ) -> None:
        self._listing, self._entries, self._ledger, self._clock = listing, entries, ledger, clock
        self._page: tuple[Listed, ...] = ()
        self._before_page: Listed | None = None
        self.began_at: str | None = None
        """When the round that has not come to the end could begin; None before this sweep goes on with it."""

    def pages(self) -> Iterator[tuple[Listed, ...]]:
        """Yield each entry once, by the page, and record how far this goes."""
        position = self._ledger.position(self._listing)
        if position is None:
            self._begin()
        else:
            self.began_at = position.began_at
        start = position.last if position is not None else None
        yield from self._marked(start, self._entries(start))
        self._begin()
        if start is not None:
            yield from self._marked(None, _until(start, self._entries(None)))
            self._begin()

    def stop(self, num_done: int) -> None:
        """Record that only the first so many entries of the page that was given last had their turn."""
        self._keep(self._page[num_done - 1] if num_done else self._before_page)

    def _marked(self, before: Listed | None, entries: Iterator[Listed]) -> Iterator[tuple[Listed, ...]]:
        self._before_page = before
        while page := tuple(islice(entries, PAGE)):
            self._page = page
            self._keep(page[-1])
            yield page
            self._before_page = page[-1]

    def _begin(self) -> None:
        self.began_at = self._clock()
        self._keep(None)

    def _keep(self, last: Listed | None) -> None:
        assert self.began_at is not None
        self._ledger.keep_position(self._listing, Position(began_at=self.began_at, last=last))


def _until(last: Listed, entries: Iterator[Listed]) -> Iterator[Listed]:
    """Yield the entries up to one, or to where it was if it is not listed any more."""
    for entry in entries:
        if entry.created_at > last.created_at:
            return
        yield entry
        if entry == last:
            return
