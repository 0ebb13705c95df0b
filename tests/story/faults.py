"""What may happen to events on their way: for the fixture `faults`, which a story parametrizes."""

from collections.abc import Callable, Sequence

from emulation.events.router import Event

Faults = Callable[[Event], Sequence[Event]]


def lose_every_event(_: Event) -> Sequence[Event]:
    """Lose every event of Batch, SageMaker and EC2; the schedule of the sweeper is no event of theirs."""
    return ()


def twice_and_out_of_order() -> Faults:
    """Deliver every event twice, and between its two copies the one before it once more, which is old news by then."""
    sent: list[Event] = []

    def deliver(event: Event) -> Sequence[Event]:
        sent.append(event)
        return (event, *sent[-2:-1], event)

    return deliver
