import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.events.event_pattern import matches

RECORDED = Path(__file__).parents[1] / "recorded_events"

EVENT: dict[str, Any] = {
    "source": "aws.batch",
    "account": "123456789012",
    "detail": {
        "status": "FAILED",
        "exit": 137,
        "ratio": 0.5,
        "is_spot": True,
        "reason": None,
        "empty": [],
        "tags": ["gpu", "team-a"],
        "address": "10.1.2.3",
        "attempts": [
            {"number": 1, "container": {"exitCode": 75, "reason": "yielded"}, "hosts": [{"id": "i-1"}, {"id": "i-2"}]},
            {"number": 2, "container": {"exitCode": 1}, "hosts": [{"id": "i-3"}]},
        ],
    },
}


@pytest.mark.parametrize(
    ("accepted", "value", "expected"),
    [
        (["a", "b"], "b", True),
        (["a"], "ab", False),
        ([1], True, False),
        ([True], 1, False),
        ([1], 1.0, True),
        ([None], None, True),
        ([{"prefix": "ab"}], "abc", True),
        ([{"prefix": "b"}], "abc", False),
        ([{"prefix": {"equals-ignore-case": "AB"}}], "abc", True),
        ([{"prefix": "1"}], 12, False),
        ([{"suffix": ".png"}], "x.png", True),
        ([{"suffix": ".png"}], "x.pngx", False),
        ([{"suffix": {"equals-ignore-case": ".PNG"}}], "x.png", True),
        ([{"equals-ignore-case": "ALICE"}], "alice", True),
        ([{"equals-ignore-case": "alice"}], "alicex", False),
        ([{"wildcard": "a*c"}], "abbc", True),
        ([{"wildcard": "a*c"}], "abcd", False),
        ([{"wildcard": "a?c"}], "abc", False),
        ([{"wildcard": "[ab]"}], "a", False),
        ([{"anything-but": "a"}], "b", True),
        ([{"anything-but": ["a", "b"]}], "b", False),
        ([{"anything-but": {"prefix": "in"}}], "init", False),
        ([{"anything-but": {"prefix": "in"}}], "out", True),
        ([{"anything-but": 1}], True, True),
        ([{"numeric": [">", 0, "<=", 5]}], 5, True),
        ([{"numeric": [">", 0, "<=", 5]}], 5.1, False),
        ([{"numeric": ["=", 5]}], "5", False),
        ([{"numeric": ["=", 1]}], True, False),
        ([{"cidr": "10.0.0.0/24"}], "10.0.0.255", True),
        ([{"cidr": "10.0.0.0/24"}], "10.0.1.0", False),
        ([{"cidr": "10.0.0.0/24"}], "not an address", False),
        ([{"exists": True}], "anything", True),
        ([{"exists": False}], "anything", False),
        (["x", {"prefix": "ab"}], "abc", True),
    ],
)
def test_a_value_is_accepted_as_aws_documents(accepted: list[Any], value: Any, expected: bool) -> None:
    assert matches({"detail": {"value": accepted}}, {"detail": {"value": value}}) is expected


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"status": ["FAILED"], "exit": [137]}, True),
        ({"status": ["FAILED"], "exit": [1]}, False),
        ({"missing": [{"exists": False}]}, True),
        ({"missing": [{"exists": True}]}, False),
        ({"missing": [{"anything-but": "x"}]}, False),
        ({"reason": [{"exists": True}]}, True),
        ({"empty": [{"exists": True}]}, False),
        ({"tags": ["gpu"]}, True),
        ({"tags": ["cpu"]}, False),
        ({"tags": {"gpu": ["x"]}}, False),
        ({"status": {"inner": ["x"]}}, False),
        ({"$or": [{"exit": [1]}, {"status": ["FAILED"]}]}, True),
        ({"$or": [{"exit": [1]}, {"status": ["RUNNING"]}]}, False),
        ({"ratio": [{"numeric": ["<", 1]}], "$or": [{"exit": [1]}, {"status": ["FAILED"]}]}, True),
        ({"ratio": [{"numeric": [">", 1]}], "$or": [{"exit": [1]}, {"status": ["FAILED"]}]}, False),
        # Objects inside arrays, which moto's matcher does not enter.
        ({"attempts": {"container": {"exitCode": [1]}}}, True),
        ({"attempts": {"container": {"exitCode": [2]}}}, False),
        # All conditions on one array must hold within one element.
        ({"attempts": {"number": [1], "container": {"exitCode": [75]}}}, True),
        ({"attempts": {"number": [2], "container": {"exitCode": [75]}}}, False),
        ({"attempts": {"number": [1], "hosts": {"id": ["i-2"]}}}, True),
        ({"attempts": {"number": [1], "hosts": {"id": ["i-3"]}}}, False),
        ({"attempts": {"container": {"reason": [{"exists": True}]}}}, True),
    ],
)
def test_paths_match_together_and_within_one_array_element(detail: dict[str, Any], expected: bool) -> None:
    assert matches({"source": ["aws.batch"], "detail": detail}, EVENT) is expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ({}, "empty at its root"),
        ({"detail": {}}, "empty at detail"),
        ({"source": []}, r"at source must be an object or an array with values; got \[\]"),
        ({"source": "aws.ec2"}, "at source must be an object or an array"),
        ({"source": [{"begins": "aws"}]}, "unknown operator 'begins'"),
        ({"source": [{"prefix": "a", "suffix": "b"}]}, "has one operator"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        matches(pattern, EVENT)


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*.json")), ids=lambda file: file.stem)
def test_a_recorded_event_matches_its_own_envelope_and_no_other_type(file: Path) -> None:
    event = json.loads(file.read_text())

    assert matches({"source": [event["source"]], "detail-type": [event["detail-type"]]}, event)
    assert not matches({"source": [event["source"]], "detail-type": ["Another Type"]}, event)


LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2)
OBJECTS = st.recursive(
    st.dictionaries(st.text("xyz", min_size=1, max_size=2), LEAVES, min_size=1, max_size=3),
    lambda inner: st.dictionaries(
        st.text("xyz", min_size=1, max_size=2), inner | st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=3
    ),
    max_leaves=12,
)


def exact_pattern(node: Any, choose: Any) -> Any:
    """Return the pattern that names every leaf of an object, going into one element of each array."""
    if isinstance(node, dict):
        return {key: exact_pattern(value, choose) for key, value in node.items()}
    if isinstance(node, list):
        return exact_pattern(choose(node), choose)
    return [node]


@given(event=OBJECTS, data=st.data())
def test_an_event_matches_the_pattern_of_its_own_leaves(event: dict[str, Any], data: st.DataObject) -> None:
    pattern = exact_pattern(event, lambda items: data.draw(st.sampled_from(items)))

    assert matches(pattern, event)
