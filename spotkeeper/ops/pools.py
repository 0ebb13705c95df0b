"""The pools that an environment's attempts ran in, as its ledger remembers them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.spot_prices import moment
from spotkeeper.ops import savings
from spotkeeper.ops.connection import Connection
from spotkeeper.policy.market import Market
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.pool_record import PoolRecord, SeenMachine, SeenPool, records
from spotkeeper.policy.preemption_rate import Spell

_TAKEN: Final = frozenset({Cause.INTERRUPTED, Cause.HOST_LOST})


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPools:
    """What was seen, and what is to be said of it."""

    pools: tuple[PoolRecord, ...]
    notes: tuple[str, ...]


def seen_pools(runs: Sequence[Run], connection: Connection, *, now: datetime) -> SeenPools:
    """Return the pools of the attempts of some runs."""
    machines = []
    attempts = {run.run_id: savings.had_machine(connection.ledger.attempts(run.run_id)) for run in runs}
    history, notes = savings.price_history([one for of_run in attempts.values() for one in of_run], connection, now=now)
    for run in runs:
        of_run = attempts[run.run_id]
        if not any(map(pool_of, of_run)):
            continue  # such as all of SageMaker's: their logs need not be read
        account = savings.account_of(run, of_run, connection, history, now=now)
        by_name = {machine.name: machine for machine in account.machines}
        for attempt in of_run:
            pool, machine = pool_of(attempt), by_name.get(savings.name_of(attempt))
            if pool is None:
                continue
            is_priced = machine is not None and machine.is_price_known
            is_measured = machine is not None and account.useful_seconds is not None
            began_at, ended_at = _life(attempt, now)
            machines.append(
                SeenMachine(
                    pool=pool,
                    began_at=began_at,
                    ended_at=ended_at,
                    was_taken=attempt.cause in _TAKEN,
                    spent_usd=float(machine.time.listed_microusd) / MICROUSD_PER_USD if machine and is_priced else None,
                    useful_hours=float(machine.time.useful_seconds) / 3600 if machine and is_measured else None,
                )
            )
    return SeenPools(pools=records(machines, now=now.timestamp() / 3600), notes=notes)


def lifetimes(
    runs: Sequence[Run], connection: Connection, *, instance_types: Sequence[str], now: datetime
) -> tuple[Spell, ...]:
    """Return the lives of the machines on spot, of these types or of all, that attempts of some runs had."""
    found = []
    for run in runs:
        for attempt in savings.had_machine(connection.ledger.attempts(run.run_id)):
            pool = pool_of(attempt)
            if pool is not None and (not instance_types or pool.instance_type in instance_types):
                began_at, ended_at = _life(attempt, now)
                found.append(Spell(hours=ended_at - began_at, is_ended=attempt.cause in _TAKEN))
    return tuple(found)


def pool_of(attempt: Attempt) -> SeenPool | None:
    """Return the pool of an attempt; None: it was not on spot, or did not say where."""
    if attempt.market != Market.SPOT or not attempt.instance_type or not attempt.availability_zone:
        return None
    return SeenPool(attempt.instance_type, attempt.availability_zone)


def _life(attempt: Attempt, now: datetime) -> tuple[float, float]:
    """Return when its container began and ended, in hours since 1970."""
    assert attempt.started_at is not None
    began_at = moment(attempt.started_at).timestamp() / 3600
    ended_at = (moment(attempt.stopped_at) if attempt.stopped_at else now).timestamp() / 3600
    return began_at, max(began_at, ended_at)
