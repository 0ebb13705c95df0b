"""What may be done to a ledger and its budgets, drawn at random from what somebody knows, which may be stale."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from spotkeeper.contract.handover import handover_request, ready_request
from spotkeeper.contract.ledger import RunState, claim_request, completion_request, placement_request
from spotkeeper.control.budget import Budget, Limits, Reservation, Switch
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.run import SUBMITTED_AGAIN_FROM, Attempt, HistoryEvent, Interruption, Run
from spotkeeper.control.submit import next_submission
from spotkeeper.policy.placement import Market
from tests.control.fakes import new_run
from tests.differential.sides import Side

RUN_IDS: Final = ("digits-7fq2", "digits-7fq2", "digits-7fq2", "other-9abc")
JOB_IDS: Final = ("job-1", "job-2")
TEAMS: Final = ("research", "others")
HOLDERS: Final = ("run/digits-7fq2", "team/research#2026-11", "environment#2026-11")
FALLBACK_CAP, TOTAL_CAP = 8, 12


@dataclass
class Known:
    """What somebody has read; whoever else writes makes it stale."""

    runs: dict[str, Run] = field(default_factory=dict)
    attempts: dict[tuple[str, int, int], Attempt] = field(default_factory=dict)
    reservations: dict[tuple[str, int], Reservation] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    switch: Switch = field(default_factory=Switch)

    def learn(self, value: Any) -> None:
        match value:
            case Run():
                self.runs[value.run_id] = value
            case Attempt():
                self.attempts[value.run_id, value.submission, value.attempt] = value
            case Reservation():
                self.reservations[value.run_id, value.submission] = value
            case Budget():
                self.budgets[value.holder] = value
            case Switch():
                self.switch = value
            case tuple():
                for part in value:
                    self.learn(part)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation with all its arguments, to be done to each side."""

    text: str
    act: Callable[[Side], Any]


Operation = Callable[[Random, Known], Call | None]
"""None: nothing is known to do it to."""


def create(random: Random, _: Known) -> Call:
    run_id = random.choice(RUN_IDS)
    # Each its own, since the index does not order what is of one moment.
    run = new_run(run_id, team=random.choice(TEAMS), created_at=f"2026-11-23T18:0{RUN_IDS.index(run_id)}:00+00:00")
    return Call(f"create {run.run_id} of {run.team}", lambda side: side.ledger.create(run))


def open_budgets(random: Random, _: Known) -> Call:
    caps = Limits(fallback_microusd=FALLBACK_CAP, total_microusd=TOTAL_CAP) if random.random() < 0.8 else Limits()
    opened = [caps.open(holder) for holder in HOLDERS]
    return Call(f"open budgets with {caps}", lambda side: tuple(side.budgets.open(budget) for budget in opened))


def read_run(random: Random, _: Known) -> Call:
    run_id = random.choice(RUN_IDS)
    return Call(f"read {run_id}", lambda side: (side.ledger.get(run_id), side.ledger.attempts(run_id)))


def read_money(random: Random, _: Known) -> Call:
    run_id, holder = RUN_IDS[0], random.choice(HOLDERS)
    return Call(
        f"read the reservations of {run_id}, {holder} and the switch",
        lambda side: (side.budgets.reservations(run_id), side.budgets.get(holder), side.budgets.switch()),
    )


def list_runs(random: Random, _: Known) -> Call:
    listing = random.choice(["open", "closed"])
    return Call(
        f"list {listing} runs, and what is not settled",
        lambda side: [
            side.ledger.list_runs(listing, 1),
            list(side.ledger.open_runs()),
            list(side.budgets.unsettled()),
        ],
    )


def advance(random: Random, known: Known) -> Call | None:
    run = _any(random, known.runs)
    changes = _legal_changes(random, run) if run else None
    if run is None or changes is None:
        return None
    return Call(f"advance {_version(run)}: {changes}", lambda side: side.ledger.advance(run, **changes))


def record_attempt(random: Random, known: Known) -> Call:
    key = (random.choice(RUN_IDS), random.randint(1, 2), random.randint(1, 2))
    attempt = known.attempts.get(key) or Attempt(run_id=key[0], submission=key[1], attempt=key[2])
    facts = {"job_id": random.choice(JOB_IDS), "exit_code": random.choice([0, 75]), "cause": "host-lost", "reason": "x"}
    changes = {name: facts[name] for name in random.sample(sorted(facts), random.randint(1, 3))}
    return Call(
        f"record attempt {key} from version {attempt.version}: {changes}",
        lambda side: side.ledger.record_attempt(attempt, **changes),
    )


def record_interruption(random: Random, _: Known) -> Call:
    told = Interruption(
        instance_id=random.choice(["i-1", "i-2"]),
        warned_at=random.choice([None, "T1", "T2"]),
        action=random.choice([None, "terminate", "stop"]),
        rebalance_at=random.choice([None, "T1", "T2"]),
    )

    def act(side: Side) -> Any:
        side.ledger.record_interruption(told, expires_at=100)
        return side.ledger.interruption_of(told.instance_id)

    return Call(f"record {told}", act)


def append_event(random: Random, _: Known) -> Call:
    run_id = random.choice(RUN_IDS)
    event = HistoryEvent(
        at=f"2026-11-23T1{random.randint(0, 2)}:00:00+00:00",
        event_id=random.choice("ab"),
        kind="queue-blocked",
        message=random.choice(["first", "second"]),
    )

    def act(side: Side) -> Any:
        side.ledger.append_event(run_id, event)
        return side.ledger.history(run_id)

    return Call(f"append {event} to {run_id}", act)


def take_submission_slots(random: Random, _: Known) -> Call:
    second, team = random.randint(1, 2), random.choice(TEAMS)
    limit, team_limit = random.randint(2, 4), random.randint(1, 3)

    def act(side: Side) -> Any:
        return [
            side.ledger.take_submission_slot(second=second, team=team, limit=limit, team_limit=team_limit)
            for _ in range(2)
        ]

    return Call(f"take two slots of second {second} for {team}, limits {limit} and {team_limit}", act)


def record_start(random: Random, _: Known) -> Call:
    queue, at = random.choice(["spot", "on-demand"]), f"2026-11-23T18:00:0{random.randint(0, 9)}+00:00"

    def act(side: Side) -> Any:
        side.ledger.record_start(queue, at=at)
        return side.ledger.last_start(queue)

    return Call(f"record a start of {queue} at {at}", act)


def keep_position(random: Random, _: Known) -> Call:
    submission = random.choice([None, 2])
    last = random.choice([None, Listed(created_at="T", run_id=RUN_IDS[0], submission=submission)])
    position = Position(began_at=random.choice(["T1", "T2"]), last=last)

    def act(side: Side) -> Any:
        side.ledger.keep_position("open", position)
        return side.ledger.position("open")

    return Call(f"keep {position}", act)


def go_on_behind(random: Random, known: Known) -> Call | None:
    run, made = _any(random, known.runs), _any(random, known.reservations)
    if run is None or made is None:
        return None
    of_run = Listed(created_at=run.created_at, run_id=run.run_id)
    of_money = Listed(created_at=made.created_at, run_id=made.run_id, submission=made.submission)
    return Call(
        f"list what is behind {run.run_id} and {_named(made)}",
        lambda side: [
            side.ledger.get_many([run.run_id, "nobody-1"]),
            side.budgets.get_many([of_money]),
            list(side.ledger.open_runs(behind=of_run)),
            list(side.budgets.unsettled(behind=of_money)),
        ],
    )


def set_limits(random: Random, known: Known) -> Call | None:
    budget = _any(random, known.budgets)
    if budget is None:
        return None
    fallback, total, is_deployed = random.randint(0, 10), random.randint(0, 20), random.random() < 0.5
    who = "settings" if is_deployed else "a person"
    return Call(
        f"set limits of {budget.holder}, version {budget.version}, to {fallback} and {total} for {who}",
        lambda side: side.budgets.set_limits(budget, fallback=fallback, total=total, is_deployed=is_deployed),
    )


def reserve(random: Random, known: Known) -> Call | None:
    run = known.runs.get(RUN_IDS[0])
    if run is None:
        return None
    is_next = run.state in SUBMITTED_AGAIN_FROM and random.random() < 0.7
    changes: dict[str, Any] = next_submission(run, now="T") if is_next else {"reason": random.choice(["x", None])}
    submission: int = changes.get("submission", random.randint(1, 4))
    asked = Reservation(
        run_id=run.run_id,
        submission=submission,
        market=random.choice([Market.ON_DEMAND, Market.ON_DEMAND, Market.SPOT]),
        microusd=random.choice([0, 1, 2, 3, 4, 6, 7]),
        holders=tuple(random.sample(HOLDERS, random.randint(1, 3))),
        created_at=f"2026-11-23T19:00:{submission:02}+00:00",
        job_queue="queue",
        usd_per_hour="1.25",
    )
    exempt = set(random.sample(HOLDERS, 1)) if random.random() < 0.3 else set()
    switch = known.switch
    return Call(
        f"reserve {asked.microusd} on {asked.market} with {asked.holders}, exempt {exempt}, generation"
        f" {switch.generation}, for submission {submission} of {_version(run)}: {changes}",
        lambda side: (side.budgets.reserve(run, asked, switch=switch, exempt=exempt, **changes), asked),
    )


def extend(random: Random, known: Known) -> Call | None:
    made = _any(random, known.reservations)
    more = random.randint(0, 4)
    if made is None:
        return None
    return Call(f"extend {_named(made)} by {more}", lambda side: side.budgets.extend(made, more))


def roll_over(random: Random, known: Known) -> Call | None:
    made = _any(random, known.reservations)
    spent, microusd = random.randint(0, 6), random.randint(0, 6)
    holders = tuple(random.sample(HOLDERS, random.randint(1, 3)))
    if made is None:
        return None
    return Call(
        f"roll {_named(made)} over at {spent} to {microusd} of {holders}",
        lambda side: side.budgets.roll_over(made, spent, holders=holders, microusd=microusd, at="T"),
    )


def settle(random: Random, known: Known) -> Call | None:
    made = _any(random, known.reservations)
    spent = random.randint(0, 6)
    if made is None:
        return None
    return Call(f"settle {_named(made)} at {spent}", lambda side: side.budgets.settle(made, spent, at="T"))


def turn(random: Random, known: Known) -> Call:
    is_off, reason, switch = random.random() < 0.5, random.choice([None, "month end"]), known.switch
    return Call(
        f"turn the switch of generation {switch.generation}: off {is_off}, {reason}",
        lambda side: side.budgets.turn(switch, is_off=is_off, reason=reason),
    )


def claim(random: Random, known: Known) -> Call | None:
    run_id, run = _run_or_none(random, known)
    submission = run.submission if run and random.random() < 0.9 else random.randint(1, 3)
    job_id = run.job_id if run and run.job_id and random.random() < 0.7 else random.choice(JOB_IDS)
    attempt = random.randint(1, 3)
    request = claim_request(
        table="", run_id=run_id, submission=submission, job_id=job_id, attempt=attempt, claimed_at="T"
    )
    return Call(f"claim {run_id}, submission {submission}, for {job_id}.{attempt}", lambda side: side.update(request))


def complete(random: Random, known: Known) -> Call | None:
    run_id, run = _run_or_none(random, known)
    epoch, step = (run.epoch if run else 0) + random.choice([0, 0, 1, -1]), random.choice([None, 1200])
    request = completion_request(table="", run_id=run_id, epoch=epoch, step=step, completed_at="T")
    return Call(f"complete {run_id} in epoch {epoch} at step {step}", lambda side: side.update(request))


def place(random: Random, _: Known) -> Call:
    run_id, submission, attempt = random.choice(RUN_IDS), random.randint(1, 2), random.randint(1, 2)
    told = {"instance_id": "i-1", "instance_type": "m5.xlarge", "availability_zone": "a", "market": "spot"}
    placement = {name: told[name] for name in random.sample(sorted(told), random.randint(0, 4))}
    request = placement_request(
        table="",
        run_id=run_id,
        submission=submission,
        job_id=random.choice(JOB_IDS),
        attempt=attempt,
        epoch=random.randint(1, 2),
        claimed_at="T",
        placement=placement,
    )
    return Call(f"place attempt {submission}.{attempt} of {run_id}: {placement}", lambda side: side.update(request))


def hand_over(random: Random, known: Known) -> Call:
    """A standby is ready, or asks for the run."""
    run_id, run = _run_or_none(random, known)
    standby = run.standby_submission if run and random.random() < 0.8 else None
    submission = standby or random.randint(1, 3)
    if random.random() < 0.5:
        request = ready_request(table="", run_id=run_id, submission=submission, ready_at="T")
        return Call(f"standby {submission} of {run_id} is ready", lambda side: side.update(request))
    request = handover_request(table="", run_id=run_id, submission=submission, asked_at="T")
    return Call(f"standby {submission} asks for {run_id}", lambda side: side.update(request))


BEGINNING: Final[tuple[Operation, ...]] = (create, open_budgets)
"""What everybody has seen."""
THEMES: Final[tuple[Mapping[Operation, int], ...]] = (
    {
        reserve: 5,
        settle: 4,
        extend: 2,
        roll_over: 2,
        read_money: 3,
        advance: 3,
        set_limits: 2,
        turn: 1,
        open_budgets: 1,
        list_runs: 1,
        go_on_behind: 1,
    },
    {reserve: 5, settle: 4, extend: 2, roll_over: 2, read_money: 3},
    {advance: 5, claim: 4, complete: 2, hand_over: 3, read_run: 3, create: 1, list_runs: 1, reserve: 1},
    {
        record_attempt: 4,
        place: 1,
        read_run: 1,
        record_interruption: 3,
        append_event: 2,
        take_submission_slots: 2,
        record_start: 1,
        keep_position: 1,
    },
)
"""What a sequence is about, with how often each operation is drawn: all at once, they would seldom meet."""


def _legal_changes(random: Random, run: Run) -> dict[str, Any] | None:
    """Return changes that the state machine allows from the run as it is known."""
    menu: list[dict[str, Any]] = [
        {"state": random.choice(list(RunState)), "job_id": random.choice(JOB_IDS)},
        {"state": RunState.SUBMITTED, "job_id": random.choice(JOB_IDS)},
        {"reason": random.choice(["x", None]), "wait_until": random.choice(["T", None])},
        {"cancel_requested_at": random.choice(["T", None])},
        {"pause_requested_at": random.choice(["T", None]), "num_stalls": random.randint(0, 2)},
        {"standby_submission": run.highest + 1, "highest_submission": run.highest + 1, "standby_job_id": "job-2"},
        {"standby_submission": None, "standby_job_id": None, "handover_asked_at": None},
        {"submission": run.standby_submission or 1, "state": RunState.SUBMITTED},
        next_submission(run, now="T"),
    ]
    changes = random.choice(menu)
    try:
        run.advanced(**changes)
    except ValueError:
        return None
    return changes


def _any(random: Random, known: Mapping[Any, Any]) -> Any:
    return random.choice(list(known.values())) if known else None


def _run_or_none(random: Random, known: Known) -> tuple[str, Run | None]:
    run_id = random.choice(RUN_IDS)
    return run_id, known.runs.get(run_id)


def _version(run: Run) -> str:
    return f"{run.run_id} from version {run.version}"


def _named(made: Reservation) -> str:
    return f"the reservation for submission {made.submission}, version {made.version}, of {made.microusd}"
