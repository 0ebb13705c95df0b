from itertools import product

import pytest

from spotkeeper.contract.ledger import FINAL_STATES, LIVE_STATES, RESTING_STATES, RunState
from spotkeeper.control.run import SUBMITTED_AGAIN_FROM, SUCCESSORS
from tests.control.fakes import new_run


def test_every_state_is_live_or_resting_or_final() -> None:
    assert sorted([*LIVE_STATES, *RESTING_STATES, *FINAL_STATES]) == sorted(RunState)


def test_a_final_state_has_no_successor_and_every_other_state_can_end() -> None:
    for state in RunState:
        if state in FINAL_STATES:
            assert SUCCESSORS[state] == frozenset()
            assert state not in SUBMITTED_AGAIN_FROM
        else:
            assert SUCCESSORS[state] >= set(FINAL_STATES)


def test_within_a_submission_states_only_move_forward() -> None:
    order = list(RunState)
    for state, successors in SUCCESSORS.items():
        assert all(order.index(successor) > order.index(state) for successor in successors)


@pytest.mark.parametrize(("before", "after"), list(product(RunState, RunState)))
def test_the_next_submission_begins_in_submitting_where_the_last_job_may_have_ended(
    before: RunState, after: RunState
) -> None:
    run = new_run(state=before, submission=4)

    if after is RunState.SUBMITTING and before in SUBMITTED_AGAIN_FROM:
        assert run.advanced(state=after, submission=5).submission == 5
    else:
        with pytest.raises(ValueError, match=f"cannot go from {before} of submission 4 to {after} of submission 5"):
            run.advanced(state=after, submission=5)


@pytest.mark.parametrize("submission", [0, 1, 2, 3, 6])
def test_a_submission_is_followed_by_the_next_and_no_other(submission: int) -> None:
    with pytest.raises(ValueError, match="of submission 4"):
        new_run(state=RunState.WAITING, submission=4).advanced(state=RunState.SUBMITTING, submission=submission)


def test_moving_a_run_backward_is_refused_naming_both_states() -> None:
    run = new_run(state=RunState.RUNNING)

    with pytest.raises(ValueError, match=r"digits-7fq2 cannot go from running of submission 1 to submitted"):
        run.advanced(state=RunState.SUBMITTED)


def test_every_advance_raises_the_version_by_one() -> None:
    assert new_run(version=7).advanced(job_id="job-1").version == 8
