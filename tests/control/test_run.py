import pytest

from spotkeeper.contract.ledger import FINAL_STATES, RunState
from spotkeeper.control.run import SUCCESSORS
from tests.control.fakes import new_run


def test_a_final_state_has_no_successor_and_every_live_state_can_end() -> None:
    for state in RunState:
        if state in FINAL_STATES:
            assert SUCCESSORS[state] == frozenset()
        else:
            assert SUCCESSORS[state] >= set(FINAL_STATES)


def test_states_only_move_forward() -> None:
    order = list(RunState)
    for state, successors in SUCCESSORS.items():
        assert all(order.index(successor) > order.index(state) for successor in successors)


def test_moving_a_run_backward_is_refused_naming_both_states() -> None:
    run = new_run(state=RunState.RUNNING)

    with pytest.raises(ValueError, match=r"digits-7fq2 cannot go from running to submitted"):
        run.advanced(state=RunState.SUBMITTED)


def test_every_advance_raises_the_version_by_one() -> None:
    assert new_run(version=7).advanced(job_id="job-1").version == 8
