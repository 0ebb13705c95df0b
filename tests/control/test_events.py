from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.control.events import Ignored, InstanceNotice, JobChanged, QueueBlocked, parse
from tests.control.recorded_events import (
    ACCOUNT,
    BLOCKED,
    JOB_CHANGE,
    REBALANCE,
    REGION,
    WARNING,
    training_job_change,
)


def read(raw: dict[str, Any]) -> Any:
    return parse(raw, account=ACCOUNT, region=REGION)


def test_an_interruption_warning_is_read_from_its_detail_not_from_its_arn() -> None:
    assert read(WARNING) == InstanceNotice(
        at="2026-11-23T18:00:00+00:00", instance_id="i-1234567890abcdef0", is_warning=True, action="terminate"
    )


def test_a_rebalance_recommendation_is_no_warning() -> None:
    assert read(REBALANCE) == InstanceNotice(
        at="2026-11-23T18:00:00+00:00", instance_id="i-1234567890abcdef0", is_warning=False
    )


def test_of_a_job_state_change_only_the_job_is_believed() -> None:
    assert read(JOB_CHANGE) == JobChanged(at="2026-11-23T18:00:00+00:00", job_id="4c7599ae-0a82-49aa-ba5a-4727fcce14a8")


def test_of_a_training_jobs_state_change_only_its_arn_is_believed() -> None:
    told = training_job_change("dev-digits-7fq2-1", TrainingJobStatus="Completed", SecondaryStatus="Completed")

    assert read(told) == JobChanged(
        at="2026-11-23T18:00:00+00:00",
        job_id=f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/dev-digits-7fq2-1",
    )


@pytest.mark.parametrize(
    "arn",
    [
        None,
        7,
        "dev-digits-7fq2-1",
        "arn:aws:sagemaker:us-east-1:123456789012:processing-job/dev-digits-7fq2-1",
        "arn:aws:sagemaker:us-east-1:123456789012:training-job/dev-digits-7fq2-1\nx",
        "arn:aws:sagemaker:us-east-1:123456789012:training-job/" + "a" * 64,
    ],
)
def test_a_training_job_whose_arn_has_another_form_is_ignored(arn: object) -> None:
    assert isinstance(read(training_job_change("dev-digits-7fq2-1", TrainingJobArn=arn)), Ignored)


def test_a_blocked_queue_is_read_with_its_reason() -> None:
    blocked = read(BLOCKED)

    assert isinstance(blocked, QueueBlocked)
    assert blocked.reason.startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detail-type": "EC2 Instance State-change Notification"}, "no handler for 'EC2 Instance State-change"),
        ({"source": "my.app"}, "no handler"),
        ({"source": ["aws.ec2"]}, "no handler"),
        ({"detail-type": {}}, "no handler"),
        ({"account": "999999999999"}, "account '999999999999'"),
        ({"region": "eu-west-1"}, "region 'eu-west-1'"),
        ({"detail": []}, "detail is not an object"),
        ({"detail": {"instance-id": "i-1234567890abcdef0"}}, "instance-action has an unknown form: None"),
        ({"detail": {"instance-id": "i-x; rm -rf", "instance-action": "terminate"}}, "instance-id has an unknown form"),
        ({"detail": {"instance-id": 7, "instance-action": "terminate"}}, "instance-id has an unknown form: 7"),
        ({"time": "yesterday"}, "time is not ISO 8601"),
        ({"time": "2026-11-23T18:00:00"}, "with a zone"),
        ({"time": None}, "time is not ISO 8601"),
    ],
)
def test_foreign_and_forged_events_are_ignored_with_the_reason(change: dict[str, Any], words: str) -> None:
    ignored = read({**WARNING, **change})

    assert isinstance(ignored, Ignored)
    assert words in ignored.reason


def test_a_reason_stays_short_whatever_was_sent() -> None:
    ignored = read({**WARNING, "account": "9" * 250_000})

    assert isinstance(ignored, Ignored)
    assert len(ignored.reason) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    base=st.sampled_from([WARNING, REBALANCE, JOB_CHANGE, BLOCKED, training_job_change("dev-digits-7fq2-1")]),
    field=st.sampled_from(["id", "source", "detail-type", "account", "time", "region", "detail"]),
    inner=st.sampled_from(["instance-id", "instance-action", "jobId", "statusReason", "TrainingJobArn"]),
    value=json_values,
)
def test_no_json_makes_the_parser_fail(base: dict[str, Any], field: str, inner: str, value: Any) -> None:
    for raw in ({**base, field: value}, {**base, "detail": {**base["detail"], inner: value}}):
        assert isinstance(read(raw), Ignored | InstanceNotice | JobChanged | QueueBlocked)
