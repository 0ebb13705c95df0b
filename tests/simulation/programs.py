"""The shipped functions under test, and which of them an event reaches.

A mutant replaces one of them. A new control function becomes part of the simulation here: an event's handler is an
entry of `HANDLERS`, what runs on a schedule an entry of `PERIODIC`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spotkeeper.contract import exit_codes
from spotkeeper.contract import ledger as contract
from spotkeeper.control import cancel, interruption, observe, ports, submit
from spotkeeper.control.events import InstanceNotice
from spotkeeper.trainer import checkpoint, ending
from tests.simulation.fakes import LedgerTable

JOB_CHANGED: Final = "job changed"
HOST_NOTICED: Final = "host noticed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Programs:
    """One module, or a mutant of one, a field; `table` is there so that its atomicity can be taken away."""

    submit: Any = submit
    cancel: Any = cancel
    observe: Any = observe
    interruption: Any = interruption
    contract: Any = contract
    exit_codes: Any = exit_codes
    ending: Any = ending
    checkpoint: Any = checkpoint
    table: type[LedgerTable] = LedgerTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What one run of a handler has at hand."""

    programs: Programs
    ledger: ports.Ledger
    batch: ports.Batch
    now: str


Handler = Callable[[str, Bound], str]
"""Takes the id that the event is about; returns a word for the trace."""


def _observe(job_id: str, bound: Bound) -> str:
    seen = bound.programs.observe.observe(job_id, ledger=bound.ledger, batch=bound.batch, now=bound.now)
    return f"{seen.outcome}: {seen.reason}"


def _record_interruption(instance_id: str, bound: Bound) -> str:
    notice = InstanceNotice(at=bound.now, instance_id=instance_id, is_warning=True, action="terminate")
    bound.programs.interruption.record(notice, ledger=bound.ledger)
    return "recorded"


HANDLERS: Final[Mapping[str, Handler]] = {JOB_CHANGED: _observe, HOST_NOTICED: _record_interruption}

PERIODIC: Final[Mapping[str, tuple[float, Callable[[Bound], str]]]] = {}
"""By name: the seconds between two runs, and what runs."""
