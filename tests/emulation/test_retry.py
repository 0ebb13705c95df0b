import pytest

from emulation.batch.retry import AttemptOutcome, Decision, decide

HOST_LOST = AttemptOutcome(status_reason="Host EC2 (instance i-0123456789abcdef0) terminated.")
EXITED = "Essential container in task exited"


def exited(code: int) -> AttemptOutcome:
    return AttemptOutcome(exit_code=code, status_reason=EXITED)


@pytest.mark.parametrize(
    ("outcome", "rules", "expected"),
    [
        pytest.param(exited(1), [], "RETRY", id="no rules at all: retry"),
        pytest.param(exited(1), [{"onExitCode": "2", "action": "EXIT"}], "RETRY", id="no rule matches: retry"),
        pytest.param(exited(75), [{"onExitCode": "75", "action": "EXIT"}], "EXIT", id="exact exit code"),
        pytest.param(
            exited(175), [{"onExitCode": "75", "action": "EXIT"}], "RETRY", id="codes match whole, not at end"
        ),
        pytest.param(
            exited(75), [{"onExitCode": "7", "action": "EXIT"}], "RETRY", id="codes match whole, not at start"
        ),
        pytest.param(exited(137), [{"onExitCode": "13*", "action": "EXIT"}], "EXIT", id="code prefix"),
        pytest.param(HOST_LOST, [{"onExitCode": "*", "action": "EXIT"}], "RETRY", id="absent code matches nothing"),
        pytest.param(exited(1), [{"onReason": "*", "action": "EXIT"}], "RETRY", id="absent reason matches nothing"),
        pytest.param(HOST_LOST, [{"onStatusReason": "Host EC2*", "action": "EXIT"}], "EXIT", id="status prefix"),
        pytest.param(HOST_LOST, [{"onStatusReason": "host ec2*", "action": "EXIT"}], "RETRY", id="case matters"),
        pytest.param(HOST_LOST, [{"onStatusReason": "Host EC2", "action": "EXIT"}], "RETRY", id="no *: exact match"),
        pytest.param(HOST_LOST, [{"onStatusReason": "*EC2*", "action": "EXIT"}], "RETRY", id="* only at the end"),
        pytest.param(HOST_LOST, [{"onStatusReason": "H?st*", "action": "EXIT"}], "RETRY", id="? is no wildcard"),
        pytest.param(
            exited(1),
            [{"onExitCode": "1", "onStatusReason": "Host EC2*", "action": "EXIT"}],
            "RETRY",
            id="all conditions of an entry must hold",
        ),
        pytest.param(
            exited(1),
            [{"onExitCode": "1", "onStatusReason": "Essential*", "action": "EXIT"}],
            "EXIT",
            id="all conditions of an entry hold",
        ),
        pytest.param(
            exited(1),
            [{"onExitCode": "1", "action": "RETRY"}, {"onStatusReason": "*", "action": "EXIT"}],
            "RETRY",
            id="the first matching entry wins",
        ),
        pytest.param(exited(1), [{"onStatusReason": "*", "action": "exit"}], "EXIT", id="actions in any case"),
        pytest.param(
            AttemptOutcome(reason="CannotPullContainerError: no such image", status_reason="Task failed to start"),
            [{"onReason": "CannotPullContainerError:*", "action": "EXIT"}],
            "EXIT",
            id="reason prefix",
        ),
        pytest.param(
            AttemptOutcome(exit_code=137, status_reason="Job attempt duration exceeded timeout", stopped_by_batch=True),
            [{"onStatusReason": "*", "action": "RETRY"}],
            "EXIT",
            id="timed out, cancelled or terminated: never",
        ),
    ],
)
def test_evaluate_on_exit_decides_as_aws_documents(
    outcome: AttemptOutcome, rules: list[dict[str, str]], expected: str
) -> None:
    assert decide(outcome, rules, attempts_made=1, attempts_allowed=2) is Decision(expected)


@pytest.mark.parametrize(("made", "allowed", "expected"), [(1, 1, "EXIT"), (9, 10, "RETRY"), (10, 10, "EXIT")])
def test_attempts_are_used_up_whatever_the_rules_say(made: int, allowed: int, expected: str) -> None:
    rules = [{"onStatusReason": "*", "action": "RETRY"}]
    assert decide(HOST_LOST, rules, attempts_made=made, attempts_allowed=allowed) is Decision(expected)
