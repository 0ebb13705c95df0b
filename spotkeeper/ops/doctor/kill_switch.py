"""Has somebody switched on-demand off?"""

from collections.abc import Iterator

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def on_demand_is_switched_on(examined: Examined) -> Iterator[Finding]:
    """The kill switch is on. Off may be intended; who looks why nothing falls back must see it."""
    switch = examined.connection.budgets.switch()
    if switch.is_off:
        yield Finding(
            subject="on-demand of the environment",
            value=f"switched off: {switch.reason}",
            expected="on: no run falls back otherwise",
            fix="`spotkeeper fallback on`, if the reason is gone",
        )
