"""The demo's dry spell: no spot capacity anywhere, from an interruption until the run trains on on-demand."""

from typing import Any

from emulation.ec2.market import SpotMarket
from spotkeeper.contract.log_lines import LogEvent


class Drought:
    """Takes all spot capacity away, once, and gives it back when the run has shown that it can do without."""

    def __init__(self, market: SpotMarket) -> None:
        self.is_on = False
        self._market = market

    def begin(self) -> None:
        """Leave no spot capacity for new instances. To be called before the run's own is reclaimed."""
        self.is_on = True
        self._market.dry()

    def see(self, event: dict[str, Any], *, is_on_demand: bool) -> bool:
        """Take note of a structured line of an attempt; end the drought with on-demand's first progress, and say so.

        So early that the first standby finds capacity: one that found none would be followed after a pause only.
        """
        if not self.is_on or not is_on_demand or event["event"] != LogEvent.PROGRESS:
            return False
        self.is_on = False
        self._market.restore()
        return True
