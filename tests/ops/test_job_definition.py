from typing import Any

from spotkeeper.ops.job_definition import derive

BASE: dict[str, Any] = {
    "jobDefinitionName": "cpu",
    "jobDefinitionArn": "arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
    "revision": 3,
    "status": "ACTIVE",
    "type": "container",
    "schedulingPriority": 100,
    "propagateTags": True,
    "timeout": {"attemptDurationSeconds": 3600},
    "containerProperties": {"image": "repository@sha256:0", "command": ["true"]},
}


def test_a_derived_definition_keeps_the_priority_without_which_a_fair_share_queue_refuses_its_jobs() -> None:
    for priority in (0, 100):
        request = derive({**BASE, "schedulingPriority": priority}, image="other", secrets={})

        assert request["schedulingPriority"] == priority


def test_a_derived_definition_keeps_what_is_off_and_leaves_out_what_was_never_set() -> None:
    request = derive({**BASE, "propagateTags": False, "retryStrategy": None}, image="other", secrets={})

    assert request["propagateTags"] is False
    assert request["timeout"] == BASE["timeout"]
    assert "retryStrategy" not in request
    assert not {"jobDefinitionArn", "revision", "status"} & request.keys()
