"""Bodies that nobody at AWS would send, reproducible from a seed. Whoever may send to a queue may send any of these."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.control.recorded_events import ACCOUNT, BLOCKED, JOB_CHANGE, REBALANCE, REGION, SCHEDULED, WARNING

RECORDED: Final = [
    json.loads(path.read_text()) for path in sorted((Path(__file__).parents[1] / "recorded_events").glob("*.json"))
]
OURS: Final = [WARNING, REBALANCE, JOB_CHANGE, BLOCKED, SCHEDULED]
FOREIGN_INSTANCE: Final = "i-0f0f0f0f0f0f0f0f0"
NOT_OURS: Final = ("foreign", "forged")
"""Ids of events that must leave no trace."""
MAX_BYTES: Final = 256 * 1024
"""What SQS carried at most for most of its life; nesting is as deep as fits."""

_INJECTIONS: Final = (
    "__proto__", "constructor", "__class__", "' OR '1'='1", "RUN#digits-7fq2", "#pk = :pk", "${jndi:ldap://x/a}",
    "{{7*7}}", "%s%n%x", "{0.__class__}", "$(id)", "; DROP TABLE runs", "../../etc/passwd", "<script>", "digits-7fq2-1",
    "i-0000000000000000\n", "a" * 65, "\r\nSet-Cookie: x", "\u202e\u2066", "\ufeff", "\x00", "\x1b[31m", "\u0661",
)  # fmt: skip
_NUMBERS: Final = ("NaN", "Infinity", "-Infinity", "1e999", "-0", "1" * 4000, "1" * 5000, "9" * 19, "1e-400", "0.1e1")
_TIMES: Final = (
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-23", "2026-11-23T18:00:00", "now", "T", "",
    "2026-W48-1T00:00:00Z", "2026-11-23T18:00:00+00:00:59.5", "2026-11-23T25:00:00Z", "\ud8002026-11-23T18:00:00Z",
)  # fmt: skip


def hostile_bodies(seed: int, number: int) -> Iterator[str]:
    """Yield so many bodies, of every kind in turn."""
    random = Random(seed)
    for index in range(number):
        body = KINDS[index % len(KINDS)](random)
        yield body[:MAX_BYTES]


def _mutated(random: Random) -> str:
    """One to three fields of a real event are gone, renamed or something else."""
    event = json.loads(json.dumps(random.choice(RECORDED + OURS)))
    for _ in range(random.randint(1, 3)):
        place = random.choice(list(_objects(event)))
        if not place:
            continue
        name = random.choice(list(place))
        match random.randrange(4):
            case 0:
                del place[name]
            case 1:
                place[random.choice(_INJECTIONS)] = place.pop(name)
            case _:
                place[name] = _value(random)
    return json.dumps(event)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _objects(part)


def _value(random: Random, depth: int = 3) -> Any:
    match random.randrange(9 if depth else 7):
        case 0:
            return random.choice(_INJECTIONS)
        case 1:
            return random.choice(_TIMES)
        case 2:
            return random.choice([None, True, False, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf")])
        case 3:
            return "".join(chr(random.randrange(0x110000)) for _ in range(random.randint(0, 30)))
        case 4:
            return "\ud800" + "x" * random.randint(0, 3) + "\udfff"
        case 5:
            return random.choice(OURS)[random.choice(["source", "detail-type", "account", "region", "time"])]
        case 6:
            return "x" * random.choice([1, 64, 65, 513, 2049, 100_000])
        case 7:
            return [_value(random, depth - 1) for _ in range(random.randint(0, 4))]
        case _:
            names = [*_INJECTIONS, "detail", "jobId", "instance-id"]
            return {random.choice(names): _value(random, depth - 1) for _ in range(random.randint(0, 4))}


def _any_json(random: Random) -> str:
    return json.dumps(_value(random))


def _torn(random: Random) -> str:
    """The text of an event, cut, doubled, or with other characters in it."""
    text = json.dumps(random.choice(RECORDED + OURS))
    match random.randrange(4):
        case 0:
            return text[: random.randrange(len(text))]
        case 1:
            return text + text
        case 2:
            letters = list(text)
            for _ in range(random.randint(1, 8)):
                letters[random.randrange(len(letters))] = chr(random.randrange(0x110000))
            return "".join(letters)
        case _:
            # The second of two equal names wins.
            return text[:-1] + ', "account": "999999999999", "__proto__": {"account": "' + ACCOUNT + '"}}'


def _nested(random: Random) -> str:
    """Nesting, as deep as fits or just below what Python's parser takes, alone or inside of an event."""
    opening, closing = random.choice([("[", "]"), ('{"a":', "}")])
    depth = random.choice([50, 300, 900, 950, 990, 5_000, MAX_BYTES // len(opening + closing + "1")])
    nest = opening * depth + "1" + closing * depth * random.randrange(2)
    event = random.choice(OURS)
    if random.random() < 0.3 or depth > 50_000:
        return nest
    name = random.choice(list(event))
    return json.dumps({**event, name: "HERE"}).replace('"HERE"', nest)


def _odd_numbers(random: Random) -> str:
    """Numbers that JSON does not have, or that no machine has, where text should be."""
    event = json.loads(json.dumps(random.choice(OURS)))
    place = random.choice([event, event["detail"]]) or event
    place[random.choice(list(place))] = "HERE"
    return json.dumps(event).replace('"HERE"', random.choice(_NUMBERS))


def _foreign(random: Random) -> str:
    """A sound event of somebody else, or of nobody."""
    home = random.choice([("999999999999", REGION), (ACCOUNT, "eu-west-1"), (int(ACCOUNT), REGION), (ACCOUNT, None)])
    event = random.choice(OURS)
    detail = {**event["detail"], "instance-id": FOREIGN_INSTANCE}
    return json.dumps({**event, "id": NOT_OURS[0], "account": home[0], "region": home[1], "detail": detail})


def _forged(random: Random) -> str:
    """A sound event about a job that does not exist."""
    event = random.choice([JOB_CHANGE, BLOCKED])
    job_id = "".join(random.choice("0123456789abcdef-") for _ in range(36))
    reason = _value(random, 0)
    detail = {**event["detail"], "jobId": job_id, "jobName": "digits-7fq2-1", "status": "FAILED"}
    return json.dumps({**event, "id": NOT_OURS[1], "detail": {**detail, "statusReason": reason}})


def _lying(random: Random) -> str:
    """A sound event, true but for the state that it tells of our job."""
    event = random.choice([*OURS, JOB_CHANGE])
    return json.dumps({**event, "detail": {**event["detail"], "status": random.choice(["FAILED", "SUCCEEDED", "?"])}})


KINDS: Final[list[Callable[[Random], str]]] = [
    _mutated, _any_json, _torn, _mutated, _nested, _odd_numbers, _mutated, _foreign, _forged, _lying,
]  # fmt: skip
