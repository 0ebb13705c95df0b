"""Tells when AWS takes machines back, whoever decided it: the plan of the demo or a trace."""

from collections.abc import Callable

from emulation.ec2.market import Instance


class Reclaims:
    """A listener of the market's that turns reclaims into sentences.

    Args:
        say: Takes each sentence.
        notice_seconds: From a notice to its deadline.
    """

    def __init__(self, say: Callable[[str], None], notice_seconds: float) -> None:
        self._say = say
        self._notice_seconds = notice_seconds

    def interruption_noticed(self, instance: Instance) -> None:
        """Tell of a reclaim with notice, when the notice is given."""
        self._say(f"AWS takes the machine back, notice {self._notice_seconds:.0f} s: {' '.join(instance.pool)}")

    def host_lost(self, instance: Instance) -> None:
        """Tell of a reclaim without notice; one with notice has been told."""
        if instance.noticed_at is None:
            self._say(f"AWS takes the machine back, without a warning: {' '.join(instance.pool)}")

    def capacity_changed(self) -> None:
        """Nothing is taken back."""

    def rebalance_recommended(self, _instance: Instance, /) -> None:
        """Nothing is taken back yet."""
