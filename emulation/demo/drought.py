"""The demo's dry spell: no spot capacity anywhere, from an interruption until the run trains on on-demand."""

from typing import Any

from emulation.demo.run_jobs import RunJob
from emulation.ec2.market import SpotMarket
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.policy.placement import Market


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
        """Take note of a structured line of an attempt; end the drought with on-demand's first progress, and say so."""
        return self._end_if(is_over=is_on_demand and event["event"] == LogEvent.PROGRESS)

    def see_job(self, job: RunJob, status: str) -> bool:
        """Take note of a job; end the drought when a standby waits in its queue before that, and say so.

        A standby that found nothing would be followed by another after a pause only, perhaps too late for this story.
        """
        is_standby = job.submission > 1 and job.market == Market.SPOT
        return self._end_if(is_over=is_standby and status == "RUNNABLE")

    def _end_if(self, *, is_over: bool) -> bool:
        if not self.is_on or not is_over:
            return False
        self.is_on = False
        self._market.restore()
        return True
