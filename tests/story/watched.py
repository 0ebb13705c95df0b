"""The alarms of an emulated environment, on what its functions log and its queues hold while time passes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from emulation.alarms.metric_alarm import ALARM
from emulation.alarms.metric_data import Datum, read_embedded
from emulation.alarms.service_metrics import visible_messages
from emulation.alarms.watch import AlarmWatch
from emulation.cloud import Cloud
from tests.story.user import eventually

T = TypeVar("T")


@dataclass
class Watched:
    """An environment whose metrics are read while time passes; a real second is `speed` of AWS's."""

    cloud: Cloud
    begin: float
    depths: list[Datum] = field(default_factory=list)

    def look(self) -> None:
        """Read what SQS reports at this moment."""
        sqs = self.cloud.session.client("sqs", endpoint_url=self.cloud.endpoint_url)
        self.depths += visible_messages(self.cloud.deployment, sqs, at=self.cloud.clock.now().timestamp())

    @property
    def emitted(self) -> list[Datum]:
        """What the functions have logged."""
        lines = (line for function in self.cloud.functions.values() for line in function.log_lines)
        return [datum for line in lines for datum in _data_in(line)]

    def fired(self) -> set[str]:
        """Return the alarms that have been in ALARM since the first sweep."""
        return {name for state in self.states() for name in state if state[name] == ALARM}

    def states(self) -> list[dict[str, str]]:
        """Return each alarm's state at each minute of AWS's since the first sweep after `begin`."""

        def aws_time(real: float) -> float:
            return self.begin + (real - self.begin) * self.cloud.clock.speed

        seen = (datum for datum in (*self.emitted, *self.depths) if datum.at >= self.begin)
        data = [replace(datum, at=aws_time(datum.at)) for datum in seen]
        first_sweep = min((datum.at for datum in data if datum.series.name == "Sweeps"), default=self.begin)
        end = aws_time(self.cloud.clock.now().timestamp())
        return AlarmWatch(self.cloud.deployment.resources).states(data, begin=first_sweep, end=end)

    def until(self, read: Callable[[], T], accept: Callable[[T], object]) -> T:
        """Look once a minute of AWS's, as CloudWatch does, until what is then read is accepted."""

        def look() -> T:
            self.look()
            return read()

        return eventually(look, accept, pause_seconds=60 / self.cloud.clock.speed)

    def sweeps(self, number: int) -> None:
        """Wait until there were so many more sweeps."""
        before = self._num_sweeps()
        eventually(self._num_sweeps, lambda found: found >= before + number)

    def _num_sweeps(self) -> int:
        return sum(datum.series.name == "Sweeps" for datum in self.emitted)


@cache  # the same lines are read at every look
def _data_in(line: str) -> tuple[Datum, ...]:
    return tuple(read_embedded([line]))
