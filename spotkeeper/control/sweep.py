"""Reconcile every open run, tend what is reserved, look at others' jobs again: all converges without any event."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from spotkeeper.control import others
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, Ports
from spotkeeper.control.reconcile import observe_job, reconcile
from spotkeeper.control.reservations import Tended, tend

REPAIRS: Final = frozenset(
    {
        Outcome.RECORDED,
        Outcome.CLOSED,
        Outcome.REQUEUED,
        Outcome.FELL_BACK,
        Outcome.WAITING,
        Outcome.PARKED,
        Outcome.PAUSED,
    }
)
"""What an event should have done already. To begin what was due or deferred is the sweeper's own work."""


@dataclass(kw_only=True, slots=True)
class Sweep:
    """What a sweep did."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reservations: Counter[Tended] = field(default_factory=Counter)
    num_caps_crossed: int = 0
    """Submissions for which their run's own cap was crossed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Run -> why it could not be reconciled; the next sweep tries again."""
    is_finished: bool = False
    """Whether there was time for all runs."""

    @property
    def num_repairs(self) -> int:
        """How many runs were not where the events should have brought them: what was lost, or is very late."""
        return sum(self.outcomes[outcome] for outcome in REPAIRS)


def sweep(*, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]) -> Sweep:
    """Reconcile the open runs, oldest first, while there is time. A run that fails never stops the others.

    Args:
        ports: The world.
        clock: Returns the time, ISO 8601, UTC; asked for each run, since submissions are counted by the second.
        has_time: Whether to go on with another run.
    """
    done = Sweep()
    for run_id in ports.ledger.open_run_ids():
        if not has_time():
            return done
        try:
            seen = reconcile(run_id, ports=ports, now=clock())
            done.outcomes[seen.outcome] += 1
            done.num_caps_crossed += seen.is_cap_crossed
        except Conflict:
            # Somebody moves it at this moment, which is as good.
            done.outcomes[Outcome.UNCHANGED] += 1
        except Exception as error:  # noqa: BLE001  one run's trouble, of whatever kind, must not become all runs'
            done.failures[run_id] = f"{type(error).__name__}: {error}"
    for run_id, submission in ports.budgets.unsettled():
        if not has_time():
            return done
        try:
            done.reservations[tend(run_id, submission, ports=ports, now=clock())] += 1
        except Conflict:
            done.reservations[Tended.LEFT] += 1
        except Exception as error:  # noqa: BLE001  as above
            done.failures[f"{run_id}, submission {submission}"] = f"{type(error).__name__}: {error}"
    # Strangers' jobs, however many, do not silence the heartbeat.
    done.is_finished = True
    _look_at_others(done, ports=ports, clock=clock, has_time=has_time)
    return done


def _look_at_others(done: Sweep, *, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]) -> None:
    """Look again at the jobs of others that had not ended."""
    for job in others.unended(ports):
        if not has_time():
            return
        try:
            done.outcomes[observe_job(job.job_id, ports=ports, now=clock()).outcome] += 1
        except Exception as error:  # noqa: BLE001  as above
            done.failures[f"job {job.job_id} of others"] = f"{type(error).__name__}: {error}"
