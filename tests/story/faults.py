"""What may happen to events on their way: for the fixture `faults`, which a story parametrizes."""

from collections.abc import Callable, Sequence

from emulation.events.router import Event

Faults = Callable[[Event], Sequence[Event]]


def lose_every_event(_: Event) -> Sequence[Event]:
    """Lose every event of Batch and EC2; the schedule of the sweeper is no event of theirs."""
    return ()
