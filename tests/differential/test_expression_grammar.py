"""Every request that the adapters and the trainer send keeps to AWS's grammar, which no emulator enforces."""

from collections import Counter
from functools import partial
from itertools import chain
from typing import Any

import pytest

from tests.differential.emulator import Emulator
from tests.differential.expression_grammar import NotInGrammarError, check_request
from tests.differential.operations import BEGINNING, THEMES, Operation
from tests.differential.planted_bugs import actions_of
from tests.differential.sequences import compare, sequence
from tests.differential.sides import beside, simulated

NUM_SEQUENCES = 60


def asking(kind: str, text: str, values: tuple[str, ...] = (), names: tuple[str, ...] = ("#a",)) -> dict[str, Any]:
    request: dict[str, Any] = {kind: text}
    if names:
        request["ExpressionAttributeNames"] = {name: name[1:] for name in names}
    if values:
        request["ExpressionAttributeValues"] = {value: {"N": "1"} for value in values}
    return request


condition = partial(asking, "ConditionExpression")
update = partial(asking, "UpdateExpression")


@pytest.mark.parametrize(
    "request_",
    [
        condition("attribute_exists(#a) AND NOT (#a IN (:v, :w) OR #a BETWEEN :v AND :w)", (":v", ":w")),
        condition("size(#a) > :v OR contains(#a, :v) AND begins_with(#a.#b[2], :v)", (":v",), ("#a", "#b")),
        condition("attribute_type(#a, :v) AND #a <> #b", (":v",), ("#a", "#b")),
        update("SET #a = if_not_exists(#a, :v) + :v, #b = list_append(#b, :v) REMOVE #c", (":v",), ("#a", "#b", "#c")),
        update("ADD #a :v DELETE #b :v", (":v",), ("#a", "#b")),
    ],
)
def test_what_aws_accepts_is_accepted(request_: dict[str, Any]) -> None:
    check_request(request_)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (condition("#a + :v <= :w", (":v", ":w")), "a comparator was expected"),
        (condition("#a <= :v - :w", (":v", ":w")), "the end was expected"),
        (condition("state = :v", (":v",), ()), "'state' where a #placeholder"),
        (condition("#a == :v", (":v",)), "'=' where a #placeholder"),
        (condition("#a != :v", (":v",)), "not made of tokens"),
        (condition("#a = :v and #a = :v", (":v",)), "'and' where the end"),
        (condition("#a = :v AND", (":v",)), "'the end' where a #placeholder"),
        (condition("(#a = :v", (":v",)), r"where \) was expected"),
        (condition("attribute_exists(:v)", (":v",)), "':v' where a #placeholder"),
        (condition("attribute_exists(#a, #a)"), r"',' where \)"),
        (condition("#a IN ()"), "where a #placeholder"),
        (condition("#a"), "'the end' where a comparator"),
        (condition(""), "not made of tokens"),
        (condition("#a = :v"), "ExpressionAttributeValues has"),
        (condition("#a = :v", (":v", ":w")), "ExpressionAttributeValues has"),
        (condition("#a = :v", (":v",), ("#a", "#b")), "ExpressionAttributeNames has"),
        ({**condition("attribute_exists(#a)"), "ExpressionAttributeValues": {}}, "ExpressionAttributeValues is empty"),
        (update("SET #a = :v * :v", (":v",)), "not made of tokens"),
        (update("SET #a = :v + :v + :v", (":v",)), "a clause that was not there yet"),
        (update("SET #a = :v SET #b = :v", (":v",), ("#a", "#b")), "a clause that was not there yet"),
        (update("REMOVE #a, "), "where a #placeholder"),
        (update("ADD #a #a"), "a :placeholder"),
        (update("SET #a = size(#a)"), "'size' where a #placeholder"),
    ],
)
def test_what_aws_refuses_is_refused(request_: dict[str, Any], why: str) -> None:
    with pytest.raises(NotInGrammarError, match=why):
        check_request(request_)


@pytest.mark.parametrize("key", ["#a = :v", "#a = :v AND begins_with(#a, :v)", "#a = :v AND #a BETWEEN :v AND :v"])
def test_a_key_condition_asks_for_one_partition_and_a_range(key: str) -> None:
    check_request(asking("KeyConditionExpression", key, (":v",)))


@pytest.mark.parametrize("key", ["#a <> :v", "#a = :v OR #a = :v", "#a = :v AND contains(#a, :v)", "#a > :v"])
def test_a_key_condition_asks_for_nothing_else(key: str) -> None:
    with pytest.raises(NotInGrammarError):
        check_request(asking("KeyConditionExpression", key, (":v",)))


def test_every_request_of_the_adapters_and_of_the_trainer_keeps_to_the_grammar(emulator: Emulator) -> None:
    kinds: Counter[str] = Counter()
    done: set[Operation] = set()

    def check(params: dict[str, Any], **_: Any) -> None:
        for action in actions_of(params):
            check_request(action)
            kinds.update(name for name in action if name.endswith("Expression"))

    emulator.client.meta.events.register("provide-client-params.dynamodb.*", check)
    try:
        for seed in range(NUM_SEQUENCES):
            steps = sequence(seed)
            assert compare(steps, beside(simulated, emulator)) is None
            done |= {step.operation for step in steps}
    finally:
        emulator.client.meta.events.unregister("provide-client-params.dynamodb.*", check)

    assert done == {*BEGINNING, *chain.from_iterable(THEMES)}
    assert kinds.keys() == {"ConditionExpression", "UpdateExpression", "KeyConditionExpression"}
