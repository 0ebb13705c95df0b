"""How many sweeps go by until each of many open runs, and each of their leases, has had its turn.

    python -m benchmarks.open_runs            prints the figures, and keeps them with a date
    python -m benchmarks.open_runs --json

The shipped sweep over ports in memory, with virtual time: each call takes what it takes in AWS, and a run or a
reservation that is looked at takes the processor's time too. Half of the jobs run, half wait for a machine. No event
comes: all that happens, the sweeps do.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.result import write
from benchmarks.storm import IndexedLedger
from spotkeeper.contract.budgets import LISTING_UNSETTLED
from spotkeeper.contract.ledger import LISTING_OPEN, RunState
from spotkeeper.control.budget import Limits, Reservation
from spotkeeper.control.ports import Job, JobAttempt, JobStatus, Ports
from spotkeeper.control.run import Run
from spotkeeper.control.submit import job_request
from spotkeeper.control.sweep import sweep
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import AROUND_SECONDS, LEASE_SECONDS, lease_microusd
from tests.control.fakes import SPOT_QUEUE, TERMS, MemoryBatch, MemoryBudgets, MemoryCheckpoints, new_run, order_of

OPEN_RUNS: Final = 10_000
PERIOD_SECONDS: Final = 300.0
SWEEP_SECONDS: Final = 210.0
"""Of a sweep's time limit, what its margin leaves."""
CALL_SECONDS: Final = 0.012
"""One item of DynamoDB, with what boto3 needs for it."""
MANY_SECONDS: Final = 0.12
"""A hundred items."""
BATCH_SECONDS: Final = 0.1
"""One call to AWS Batch."""
DESCRIBE_SECONDS: Final = 0.4
"""A hundred jobs."""
LATENCIES: Final = {
    "get_many": MANY_SECONDS,
    "describe_many": DESCRIBE_SECONDS,
    "describe": BATCH_SECONDS,
    "find": BATCH_SECONDS,
    "submit": BATCH_SECONDS,
}
MOST_SWEEPS: Final = 40
START: Final = datetime(2026, 11, 23, 18, tzinfo=UTC)


class Clock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> str:
        """Return the time as the product writes times."""
        return iso(self.seconds)


def iso(seconds: float) -> str:
    """Return a virtual time as the product writes times."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


class Timed:
    """A port whose every call takes its time, and is counted."""

    def __init__(self, port: Any, clock: Clock, calls: Counter[str]) -> None:
        self._port, self._clock, self._calls = port, clock, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._port, name)

        def called(*arguments: Any, **named: Any) -> Any:
            self._clock.seconds += LATENCIES.get(name, CALL_SECONDS)
            self._calls[name] += 1
            return call(*arguments, **named)

        return called


class World:
    """Open runs in memory, with the jobs that they are in."""

    def __init__(self, num_runs: int, *, is_leased: bool) -> None:
        self.clock = Clock()
        self.calls: Counter[str] = Counter()
        self.ledger, self.batch = IndexedLedger(), MemoryBatch()
        self.budgets = MemoryBudgets(self.ledger)
        self.terms = replace(TERMS, limits=Limits(total_microusd=MICROUSD_PER_USD * 1_000_000)) if is_leased else TERMS
        for number in range(num_runs):
            self._add(number, is_leased=is_leased)

    def sweep(self) -> None:
        """Sweep once, and wait for the next."""
        began_seconds = self.clock.seconds
        timed = {
            "ledger": self.ledger,
            "budgets": self.budgets,
            "batch": self.batch,
            "checkpoints": MemoryCheckpoints(),
        }
        ports: Any = {name: Timed(port, self.clock, self.calls) for name, port in timed.items()}
        done = sweep(
            ports=Ports(**ports, terms=self.terms),
            clock=self.clock.now,
            has_time=lambda: self.clock.seconds < began_seconds + SWEEP_SECONDS,
        )
        assert not done.failures, done.failures
        self.clock.seconds = began_seconds + PERIOD_SECONDS

    def sweeps_of_a_round(self) -> int:
        """Sweep until everything that is listed has had its turn once more; return after how many sweeps."""
        left = {LISTING_OPEN, LISTING_UNSETTLED} if self.budgets.reserved else {LISTING_OPEN}
        begun = {listing: self.ledger.positions[listing] for listing in left}
        ends: dict[str, int] = dict.fromkeys(left, 0)
        sweeps = 0
        while left and sweeps < MOST_SWEEPS:
            self.sweep()
            sweeps += 1
            for listing in sorted(left):
                # Two ends of rounds: the one that was under way, and the one that began behind it.
                ends[listing] += self.ledger.positions[listing].began_at != begun[listing].began_at
                begun[listing] = self.ledger.positions[listing]
                if ends[listing] == 2:
                    left.remove(listing)
        return sweeps - 1

    def _add(self, number: int, *, is_leased: bool) -> None:
        # Members of a sweep are of one moment.
        run_id, job_id = f"lr-{number:04d}", f"job-{number}"
        run = replace(
            new_run(run_id, created_at=iso(-3600.0), total_cap_microusd=None),
            state=RunState.RUNNING if number % 2 else RunState.SUBMITTED,
            job_id=job_id,
            version=3,
            highest_reserved=1 if is_leased else None,
        )
        self.ledger.runs[run_id] = run
        is_running = number % 2 == 1
        attempts = (JobAttempt(started_at=iso(-1800.0)),) if is_running else ()
        status = JobStatus.RUNNING if is_running else JobStatus.RUNNABLE
        self.batch.jobs[job_id] = Job(
            job_id=job_id,
            name=f"{run_id}-1",
            status=status,
            order=order_of(job_request(run)),
            attempts=attempts,
        )
        if is_leased:
            self._lease(run)

    def _lease(self, run: Run) -> None:
        price = self.terms.profiles["cpu"].dearest_usd_per_hour(Market.SPOT, num_nodes=1)
        assert price is not None
        reservation = Reservation(
            run_id=run.run_id,
            submission=1,
            market=Market.SPOT,
            microusd=lease_microusd(price, LEASE_SECONDS + AROUND_SECONDS),
            holders=(),
            created_at=run.created_at,
            job_queue=SPOT_QUEUE,
            usd_per_hour=str(price),
        )
        self.budgets.reserved[run.run_id, 1] = reservation


def _looked_at(world: World) -> int:
    """Count the runs of which a sweep has told: attempts that no event told of, waits that nobody noted."""
    noted = sum(run.waits_since is not None for run in world.ledger.runs.values())
    return noted + len({key[0] for key in world.ledger.attempt_items})


def _renewed(world: World) -> int:
    return sum(item.version > 1 for item in world.budgets.reserved.values())


def measure(num_runs: int, *, is_leased: bool) -> dict[str, Any]:
    """Sweep until every run was looked at, and every lease that had to be renewed is; return the figures."""
    world = World(num_runs, is_leased=is_leased)
    num_due = num_runs // 2 if is_leased else 0  # those that run have used up half of their hour
    sweeps = 0
    while (_looked_at(world) < num_runs or _renewed(world) < num_due) and sweeps < MOST_SWEEPS:
        world.sweep()
        sweeps += 1
    num_first = sweeps
    return {
        "sweeps_after_all_events_were_lost": num_first,
        "sweeps_when_nothing_happens": world.sweeps_of_a_round(),
    }


def main() -> None:
    """Print the figures and keep them with a date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=OPEN_RUNS)
    parser.add_argument("--json", action="store_true", help="print one JSON object and keep no file")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs must be at least 1, got {options.runs}: no run is looked at in no time")
    began = time.perf_counter()
    figures = {
        "open_runs": options.runs,
        "without_total_cap": measure(options.runs, is_leased=False),
        "with_total_cap": measure(options.runs, is_leased=True),
        "wall_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(figures, indent=None if options.json else 2))
    if not options.json:
        write("open_runs", "python -m benchmarks.open_runs", figures)


if __name__ == "__main__":
    main()
