"""What SageMaker bills of a job, shared by the job's attempts."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.control.run import Attempt
from spotkeeper.control.training_bill import billed_seconds
from tests.control.reconciled import after

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def attempt(number: int, began: float, ended: float | None, *, submission: int = 1, **told: Any) -> Attempt:
    """From a minute to another."""
    return Attempt(
        run_id="digits-7fq2",
        submission=submission,
        attempt=number,
        started_at=after(began),
        stopped_at=None if ended is None else after(ended),
        **told,
    )


def test_the_attempts_of_a_job_share_what_is_billed_by_the_time_of_their_containers() -> None:
    found = billed_seconds([attempt(1, 0, 10), attempt(2, 15, 45, job_billed_seconds=1000)], now=NOW)

    assert found == {(1, 1): 250, (1, 2): 750}


def test_a_job_of_which_sagemaker_has_told_nothing_has_no_shares_and_takes_none_of_another() -> None:
    attempts = [
        attempt(1, 0, 10, job_billed_seconds=90),
        attempt(1, 20, 30, submission=2),
        attempt(1, 40, None, submission=3),
    ]

    assert billed_seconds(attempts, now=NOW) == {(1, 1): 90}


def test_containers_that_ran_for_no_time_share_equally() -> None:
    found = billed_seconds([attempt(1, 5, 5), attempt(2, 9, 9, job_billed_seconds=60)], now=NOW)

    assert found == {(1, 1): 30, (1, 2): 30}


@given(st.lists(st.integers(0, 600), min_size=1, max_size=8), st.integers(0, 10**6))
def test_the_shares_add_up_to_what_is_billed(minutes: list[int], billed: int) -> None:
    attempts = [attempt(number, 0, lasted) for number, lasted in enumerate(minutes, start=1)]
    attempts[-1] = attempt(len(minutes), 0, minutes[-1], job_billed_seconds=billed)

    shares = billed_seconds(attempts, now=NOW).values()

    assert len(shares) == len(minutes)
    assert sum(shares) == Decimal(billed)
    assert min(shares) >= 0
