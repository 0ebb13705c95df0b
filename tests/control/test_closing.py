import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.closing import close_if_over
from spotkeeper.control.run import Completion
from tests.control.fakes import NOW, MemoryLedger, memory_ports, new_run

DONE = Completion(epoch=2, completed_at=NOW, step=100)


def test_what_is_neither_complete_nor_cancelled_goes_on() -> None:
    ledger = MemoryLedger()
    run = ledger.create(new_run(epoch=3, completion=DONE))

    assert close_if_over(run, ports=memory_ports(ledger), at=NOW) is None
    assert ledger.runs[run.run_id] == run


def test_an_ended_run_neither_pauses_nor_waits() -> None:
    ledger = MemoryLedger()
    run = ledger.create(new_run(epoch=2, completion=DONE, pause_requested_at=NOW, wait_until=NOW))

    ended = close_if_over(run, ports=memory_ports(ledger), at=NOW)

    assert ended is not None
    assert (ended.state, ended.pause_requested_at, ended.wait_until) == (RunState.SUCCEEDED, None, None)


@pytest.mark.parametrize("state", [RunState.SUBMITTING, RunState.PAUSED])
def test_finished_work_counts_though_the_run_is_cancelled_between_two_jobs(state: RunState) -> None:
    """A container that Batch had given up for lost may finish while the next submission is on its way."""
    ledger = MemoryLedger()
    ledger.create(new_run(state=state, submission=2, epoch=2, completion=DONE))

    assert cancel("digits-7fq2", ports=memory_ports(ledger), now=NOW).state is RunState.SUCCEEDED
