from typing import Any

import pytest

from spotkeeper.control.classify import (
    CANCEL_REASON,
    OVER_BUDGET_REASON,
    OVER_MONTH_REASON,
    PAUSE_REASON,
    PRIORITY_REASON,
    STANDBY_REASON,
    SWITCHED_OFF_REASON,
    TWIN_REASON,
    Cause,
    classify,
    ending_of,
    instance_of,
)
from spotkeeper.control.ports import Job, JobOrder, JobStatus
from spotkeeper.control.run import Attempt

CAPACITY = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
MISCONFIGURED = "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
NORMAL = "Essential container in task exited"
LIMIT = "Job attempt duration exceeded timeout"
HOST = "Host EC2 (instance i-08784105ffff56b4f) terminated."
STOPPED_HOST = "Host EC2 (instance i-08784105ffff56b4f) stopped."


def ended(**facts: Any) -> Attempt:
    return Attempt(
        run_id="r-1",
        submission=1,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        stopped_at="2026-01-01T01:00:00+00:00",
        **facts,
    )


def failed(status_reason: str | None) -> Job:
    return Job(
        job_id="job-1",
        name="r-1-1",
        status=JobStatus.FAILED,
        order=JobOrder(queue="spot", definition="cpu", created_at="2026-01-01T00:00:00+00:00"),
        status_reason=status_reason,
    )


TABLE = [
    ("reclaimed with warning", {"status_reason": HOST, "warned_at": "2026-01-01T00:58:00+00:00"}, Cause.INTERRUPTED),
    ("reclaimed with warning, killed", {"status_reason": HOST, "exit_code": 137, "warned_at": "x"}, Cause.INTERRUPTED),
    ("host terminated without warning", {"status_reason": HOST}, Cause.HOST_LOST),
    ("host stopped", {"status_reason": STOPPED_HOST, "exit_code": 143}, Cause.HOST_LOST),
    ("day-14 draining", {"status_reason": "Task stopped during instance draining"}, Cause.HOST_LOST),
    ("host lost while cancelling", {"status_reason": HOST, "job_status_reason": CANCEL_REASON}, Cause.HOST_LOST),
    (
        "cancelled, killed",
        {"status_reason": NORMAL, "exit_code": 137, "job_status_reason": CANCEL_REASON},
        Cause.CANCELLED,
    ),
    (
        "cancelled, yielded",
        {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": CANCEL_REASON},
        Cause.CANCELLED,
    ),
    ("twin", {"status_reason": NORMAL, "exit_code": 143, "job_status_reason": TWIN_REASON}, Cause.TWIN),
    ("standby", {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": STANDBY_REASON}, Cause.STANDBY),
    (
        "switched off",
        {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": SWITCHED_OFF_REASON},
        Cause.SWITCHED_OFF,
    ),
    (
        "over budget",
        {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": OVER_BUDGET_REASON},
        Cause.OVER_BUDGET,
    ),
    (
        "over the month's budget",
        {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": OVER_MONTH_REASON},
        Cause.OVER_MONTH,
    ),
    (
        "time limit",
        {"status_reason": "Job attempt duration exceeded timeout", "exit_code": 137},
        Cause.TIMED_OUT,
    ),
    (
        "time limit, yielded",
        {"exit_code": 75, "job_status_reason": "Job attempt duration exceeded timeout"},
        Cause.TIMED_OUT,
    ),
    (
        "out of memory",
        {"status_reason": NORMAL, "exit_code": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"},
        Cause.OUT_OF_MEMORY,
    ),
    ("completed", {"status_reason": NORMAL, "exit_code": 0}, Cause.COMPLETED),
    ("yielded", {"status_reason": NORMAL, "exit_code": 75}, Cause.YIELDED),
    ("fenced", {"status_reason": NORMAL, "exit_code": 76}, Cause.FENCED),
    ("incomplete", {"status_reason": NORMAL, "exit_code": 77}, Cause.INCOMPLETE),
    ("refused", {"status_reason": NORMAL, "exit_code": 78}, Cause.REFUSED),
    ("task failed to start", {"status_reason": "Task failed to start"}, Cause.COULD_NOT_START),
    (
        "image cannot be pulled",
        {
            "status_reason": "Task failed to start",
            "reason": "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref "
            "registry.example/trainer:1: dial tcp: i/o timeout",
        },
        Cause.COULD_NOT_START,
    ),
    (
        "image that does not exist",
        {
            "status_reason": "Task failed to start",
            "reason": "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
            "registry.example/trainer:1: registry.example/trainer:1: not found",
        },
        Cause.NO_SUCH_IMAGE,
    ),
    (
        "image that may not be pulled",
        {
            "status_reason": "Task failed to start",
            "reason": "CannotPullContainerError: Error response from daemon: pull access denied for trainer, "
            "repository does not exist or may require 'docker login'",
        },
        Cause.NO_SUCH_IMAGE,
    ),
    (
        "program that did not find something",
        {"status_reason": NORMAL, "exit_code": 1, "reason": "file not found"},
        Cause.FAILED,
    ),
    (
        "paused, yielded",
        {"status_reason": NORMAL, "exit_code": 75, "job_status_reason": PAUSE_REASON},
        Cause.PAUSED,
    ),
    (
        "resource initialization",
        {"reason": "ResourceInitializationError: unable to pull secrets"},
        Cause.COULD_NOT_START,
    ),
    (
        "terminated by somebody",
        {"status_reason": NORMAL, "exit_code": 143, "job_status_reason": "Terminated by ops"},
        Cause.TERMINATED,
    ),
    (
        "training that failed without an exit code",
        {"status_reason": "AlgorithmError: Traceback (most recent call last): …"},
        Cause.FAILED,
    ),
    (
        "training that failed without an exit code, beside words about its job",
        {"status_reason": "AlgorithmError: ", "job_status_reason": "AlgorithmError: and more"},
        Cause.FAILED,
    ),
    (
        "training that handed over",
        {"status_reason": "AlgorithmError: , exit code: 75", "exit_code": 75},
        Cause.YIELDED,
    ),
    (
        "killed by its own host's kernel",
        {"status_reason": NORMAL, "exit_code": 137, "job_status_reason": NORMAL},
        Cause.FAILED,
    ),
    ("user failure", {"status_reason": NORMAL, "exit_code": 1}, Cause.FAILED),
    ("user failure with a code of a shell", {"status_reason": NORMAL, "exit_code": 127}, Cause.FAILED),
    (
        "capacity given up after an earlier failure",
        {"exit_code": 75, "job_status_reason": CAPACITY},
        Cause.YIELDED,
    ),
    ("nothing said", {}, Cause.UNKNOWN),
]


@pytest.mark.parametrize(("facts", "cause"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_way_to_end_has_its_cause(facts: dict[str, Any], cause: Cause) -> None:
    assert classify(ended(**facts)) is cause


def test_every_cause_of_an_attempt_has_a_row_in_the_table() -> None:
    # These end a job of which no attempt runs.
    assert {row[2] for row in TABLE} == set(Cause) - {Cause.NO_CAPACITY, Cause.MISCONFIGURED, Cause.REPRIORITIZED}


def test_a_running_attempt_has_no_cause() -> None:
    assert classify(Attempt(run_id="r-1", submission=1, attempt=1, started_at="2026-01-01T00:00:00+00:00")) is None


@pytest.mark.parametrize(
    ("last", "job_reason", "words"),
    [
        (None, CAPACITY, "no capacity"),
        (None, MISCONFIGURED, "its queue cannot run this job: Canceled by JobStateTimeLimit"),
        (None, PRIORITY_REASON, "with another priority"),
        (ended(status_reason=HOST), PRIORITY_REASON, "with another priority"),
        (None, "Terminated by ops", "somebody stopped the job: Terminated by ops"),
        (ended(status_reason=HOST), CAPACITY, "no capacity"),
        (ended(status_reason=HOST), HOST, "no retry left"),
        (ended(status_reason=NORMAL, exit_code=3), NORMAL, "exit code 3"),
        (
            ended(status_reason="AlgorithmError: boom"),
            "AlgorithmError: boom",
            "failed in these words: AlgorithmError: boom",
        ),
        (None, "AlgorithmError: boom", "the program failed in these words: AlgorithmError: boom"),
        (ended(status_reason=NORMAL, exit_code=78), NORMAL, "could not start the program: its log says which"),
        (ended(status_reason=NORMAL, exit_code=77), NORMAL, "if it was to stop early, call `run.finish()`"),
        (ended(status_reason=LIMIT, exit_code=75), LIMIT, "submit again with a longer --time-limit"),
        (ended(status_reason=NORMAL, exit_code=0), NORMAL, "no completion record"),
        (ended(status_reason="Task failed to start", reason="CannotPull…: denied"), "Task failed to start", ": denied"),
        (None, None, "gave no reason"),
    ],
)
def test_a_failed_run_says_why_in_words(last: Attempt | None, job_reason: str | None, words: str) -> None:
    assert words in ending_of(failed(job_reason), last).words


def test_the_instance_is_read_from_the_attempt_or_from_the_words_about_its_host() -> None:
    assert instance_of(ended(instance_id="i-1", status_reason=HOST)) == "i-1"
    assert instance_of(ended(status_reason=HOST)) == "i-08784105ffff56b4f"
    assert instance_of(ended(status_reason=NORMAL)) is None
