"""Who wants a sweep: several runs that differ in a parameter, submitted as one; each is then tended as any run is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import member_id
from spotkeeper.control.run import Run
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.policy.money import MICROUSD_PER_USD as USD
from tests.simulation.attempt import PARAMETER
from tests.simulation.choices import Choices
from tests.simulation.fakes import LedgerTable
from tests.simulation.operators import AGAIN_SECONDS, Command, Operator, wanted
from tests.simulation.programs import Bound
from tests.simulation.sched import Scheduler

NAME: Final = "s"
ASKS_AGAIN_SECONDS: Final = (*AGAIN_SECONDS, 1700.0)
"""The last is just before members go on by themselves."""
MOST_ASKED: Final = 8
"""How often the user asks for the array; nothing happens that has not happened by then."""


class Member(Operator):
    """Who wants one member; all of them are submitted together."""

    def begin(self) -> None:
        """Leave that to the sweep."""

    def submit(self) -> None:
        """As above."""


class SweepOperator:
    """Who wants the sweep."""

    def __init__(
        self,
        size: int,
        *,
        scheduler: Scheduler,
        choices: Choices,
        table: LedgerTable,
        command: Command,
        member: Mapping[str, Any],
    ) -> None:
        """`member`: what each `Member` is given beside its run."""
        self._scheduler, self._choices, self._table, self._command = scheduler, choices, table, command
        base, self._skew_seconds = wanted(NAME, NAME, scheduler, choices)
        caps = {
            "sweep_fallback_cap_microusd": choices.among(f"{NAME}: shared cap", (None, None, 4 * USD)),
            "sweep_total_cap_microusd": choices.among(f"{NAME}: shared total cap", (None, None, 60 * USD, 5 * USD)),
        }
        runs = [
            replace(
                base,
                run_id=member_id(NAME, index),
                sweep=NAME,
                array_index=index,
                variables={PARAMETER: f"0.{index}"},
                **caps,
            )
            for index in range(size)
        ]
        self._record = SweepRecord(
            name=NAME, created_at=base.created_at, size=size, parameters=(PARAMETER,), digest="the same"
        )
        self._runs: list[Run] = runs
        self._num_asked = 0
        self.submit()
        self.members = [Member(run, skew_seconds=self._skew_seconds, **member) for run in runs]

    def submit(self) -> None:
        """Submit the sweep as the command does, or go on where that was cut off."""

        def body(bound: Bound) -> None:
            now = bound.clock()
            record = bound.sweeps.create(self._record)
            bound.sweeps.create_members([replace(run, created_at=now) for run in self._runs])
            members = tuple(bound.sweeps.members(record))
            current = bound.sweeps.get(record.name) or record
            bound.programs.array.submit(current, members, ports=bound.ports, sweeps=bound.sweeps, now=now)

        self._num_asked += 1
        if self._num_asked < MOST_ASKED and self._choices.among(f"{NAME}: asks again", (True, True, True, False)):
            self._scheduler.after(self._choices.among(f"{NAME}: asks again after", ASKS_AGAIN_SECONDS), self.ask_again)
        self._command(f"submit {NAME}", body, self._skew_seconds)

    def ask_again(self) -> None:
        """Ask for what has not come about."""
        runs = [self._table.runs.get(run.run_id) for run in self._runs]
        if any(run is None or run.state is RunState.SUBMITTING for run in runs):
            self.submit()

    def insist(self) -> None:
        """Say again what the ledger does not know: faults have ceased."""
        if any(run.run_id not in self._table.runs for run in self._runs):
            self.submit()
