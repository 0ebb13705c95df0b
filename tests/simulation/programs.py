"""The shipped functions under test, and which of them an event reaches.

A mutant replaces one of them. A new control function becomes part of the simulation here: an event's handler is an
entry of `HANDLERS`, what runs on a schedule an entry of `PERIODIC`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spotkeeper.contract import exit_codes, handover
from spotkeeper.contract import ledger as contract
from spotkeeper.control import (
    array,
    cancel,
    interruption,
    kill_switch,
    pause,
    ports,
    priority,
    reconcile,
    submit,
    sweep,
)
from spotkeeper.control.aws import job_services, mirrors, training_jobs
from spotkeeper.control.events import InstanceNotice
from spotkeeper.control.ports import Sweeps
from spotkeeper.policy import standby as standby_policy
from spotkeeper.trainer import array_member, checkpoint, ending
from tests.simulation.fakes import LedgerTable

JOB_CHANGED: Final = "job changed"
HOST_NOTICED: Final = "host noticed"
SWEEP_MARGIN_SECONDS: Final = 15.0
PASSING: Final = (
    ports.Throttled,
    ports.ReplyLost,
    ports.Refused,
    ports.NotAllowed,
    ConnectionError,
    ports.Conflict,
)
"""What faults make of a program; it is run again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Programs:
    """One module, or a mutant of one, a field; `table` is there so that its atomicity can be taken away."""

    submit: Any = submit
    array: Any = array
    cancel: Any = cancel
    pause: Any = pause
    priority: Any = priority
    reconcile: Any = reconcile
    sweep: Any = sweep
    kill_switch: Any = kill_switch
    standby_policy: Any = standby_policy
    handover: Any = handover
    interruption: Any = interruption
    contract: Any = contract
    exit_codes: Any = exit_codes
    array_member: Any = array_member
    ending: Any = ending
    checkpoint: Any = checkpoint
    job_services: Any = job_services
    training_jobs: Any = training_jobs
    mirrors: Any = mirrors
    table: type[LedgerTable] = LedgerTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What one run of a handler has at hand."""

    programs: Programs
    ports: ports.Ports
    sweeps: Sweeps
    clock: Callable[[], str]
    holders: tuple[str, ...]
    """Who has a budget."""
    seconds_left: Callable[[], float]
    """Until whoever runs the handler kills it."""

    @property
    def world(self) -> dict[str, Any]:
        """What a command of people is given."""
        return {"ports": self.ports, "now": self.clock()}


Handler = Callable[[str, str, Bound], str]
"""Takes the id that the event is about and the event's time; returns a word for the trace."""


def _observe(job_id: str, _: str, bound: Bound) -> str:
    seen = bound.programs.reconcile.observe_job(job_id, ports=bound.ports, now=bound.clock())
    return f"{seen.outcome}: {seen.reason}"


def _record_interruption(instance_id: str, at: str, bound: Bound) -> str:
    notice = InstanceNotice(at=at, instance_id=instance_id, is_warning=True, action="terminate")
    bound.programs.interruption.record(notice, ledger=bound.ports.ledger)
    return "recorded"


def _sweep(bound: Bound) -> str:
    done = bound.programs.sweep.sweep(
        ports=bound.ports, clock=bound.clock, has_time=lambda: bound.seconds_left() > SWEEP_MARGIN_SECONDS
    )
    for run_id, words in done.failures.items():
        # The sweeper goes on after whatever error; here an error that no fault explains is a finding.
        if not words.startswith(tuple(error.__name__ for error in PASSING)):
            raise AssertionError(f"the sweeper fails for {run_id}: {words}")
    words = [f"{outcome} {count}" for outcome, count in done.outcomes.items()]
    return ", ".join([*words, *(f"{run_id} fails with {why}" for run_id, why in done.failures.items())])


HANDLERS: Final[Mapping[str, Handler]] = {JOB_CHANGED: _observe, HOST_NOTICED: _record_interruption}

PERIODIC: Final[Mapping[str, tuple[float, float, Callable[[Bound], str]]]] = {"sweep": (300.0, 240.0, _sweep)}
"""By name: the seconds between two runs, the seconds that one may take, and what runs."""
