"""From what the user asks of a sweep to its members and the one request that submits them: every rule, and no effect.

A member is the run that `submit` would make of the same options, with parameters of its own as environment variables.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spotkeeper.contract.names import check_name, member_id
from spotkeeper.control.array import LARGEST, SMALLEST, array_request
from spotkeeper.control.run import Run
from spotkeeper.control.submit import job_request
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.ops.plan import RESERVED, VARIABLE, Plan, Request, check_size
from spotkeeper.ops.secret_scan import looks_secret

Parameters = Mapping[str, str]
"""Environment variables of one member."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """What will be sent."""

    base: Plan
    """The run that all members have in common; it is none itself."""
    record: SweepRecord
    members: tuple[Run, ...]

    def request(self) -> dict[str, Any]:
        """Return the SubmitJob request."""
        return array_request(self.members[0], own=self.record.parameters, size=len(self.members))


def cross_product(choices: Mapping[str, Sequence[str]], lines: Sequence[Parameters]) -> tuple[dict[str, str], ...]:
    """Return each line together with every combination of the choices; without lines the combinations alone.

    Raises:
        ValueError: if a line and a choice name the same parameter, or a sweep of that size cannot be.
    """
    both = sorted({name for line in lines for name in line} & choices.keys())
    if both:
        raise ValueError(f"given with --param and in --members: {', '.join(both)}: choose one")
    combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    size = len(combinations) * (len(lines) or 1)
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(
            f"a sweep has {SMALLEST} to {LARGEST:,} members, and these parameters make {size:,}: "
            + ("use `spotkeeper submit` for a single run" if size < SMALLEST else "divide it")
        )
    return tuple({**line, **combination} for line in lines or [{}] for combination in combinations)


def plan_sweep(base: Plan, request: Request, *, name: str, members: Sequence[Parameters]) -> SweepPlan:
    """Check the members and return what will be sent for them.

    Args:
        base: What `submit` would send for the request.
        request: What the user asks for, apart from the parameters.
        name: The sweep's; unique in the environment.
        members: Parameters of each.

    Raises:
        ValueError: if they break a rule.
    """
    check_name("the sweep's name", name)
    _check_parameters(members, request)
    names = tuple(sorted({parameter for member in members for parameter in member}))
    runs = tuple(
        replace(
            base.run,
            run_id=member_id(name, index),
            sweep=name,
            array_index=index,
            variables={**base.run.variables, **member},
        )
        for index, member in enumerate(members)
    )
    record = SweepRecord(
        name=name,
        created_at=base.run.created_at,
        size=len(runs),
        parameters=names,
        digest=_digest(base, members),
    )
    made = SweepPlan(base=base, record=record, members=runs)
    check_size(made.request())
    # A member that is re-queued is submitted with its own parameters.
    check_size(job_request(max(runs, key=lambda run: len(str(run.variables)))))
    return made


def _check_parameters(members: Sequence[Parameters], request: Request) -> None:
    seen: dict[tuple[tuple[str, str], ...], int] = {}
    for index, member in enumerate(members):
        twin = seen.setdefault(tuple(sorted(member.items())), index)
        if twin != index:
            raise ValueError(f"members {twin} and {index} have the same parameters, {dict(member)}: leave one out")
        for name, value in member.items():
            _check_parameter(name, value, request)


def _check_parameter(name: str, value: str, request: Request) -> None:
    if not VARIABLE.fullmatch(name):
        raise ValueError(f"--param: a name must be letters, digits and _, not starting with a digit; got {name!r}")
    if name.upper().startswith(RESERVED):
        raise ValueError(f"--param: names beginning with {' and '.join(RESERVED)} are reserved; got {name!r}")
    for option, given in (("--env", request.environment_variables), ("--secret", request.secrets)):
        if name in given:
            raise ValueError(f"{name} is a parameter and given with {option}: choose one")
    reason = None if request.force else looks_secret(name, value)
    if reason is not None:
        raise ValueError(
            f"--param {name} looks like a secret ({reason}), and everybody who may read the ledger can read it: use "
            f"--secret {name}=arn:aws:secretsmanager:… (or --force if it is none)"
        )


def _digest(base: Plan, members: Sequence[Parameters]) -> str:
    # Neither when it was asked, nor how the same definition is referred to before and after it is registered.
    shared = {
        name: value
        for name, value in asdict(base.run).items()
        if name not in ("run_id", "created_at", "job_definition")
    }
    definition = base.definition["jobDefinitionName"] if base.definition else base.run.job_definition
    asked = json.dumps([shared, definition, [dict(member) for member in members]], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
