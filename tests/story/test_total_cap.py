"""A run's own total cap is used up: it is stopped while it can still save, and goes on once somebody raises the cap."""

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.ops.spending import Spending
from tests.story.programs import Trained, trains_until
from tests.story.user import User, eventually, later


def test_a_run_whose_total_cap_is_used_up_saves_and_is_parked_and_finishes_once_the_cap_is_raised(user: User) -> None:
    run = user.submit(trains_until(last_epoch=2), spending=Spending.of(total_cap="0.40"))  # an hour, and not another
    eventually(lambda: user.num_commits(run), bool)

    user.sweep(at=later(3600))
    parked = eventually(lambda: user.run(run), lambda found: found.state is RunState.PARKED)
    saved = Trained.all_in(user.output(run))
    told = user.types("budget", "set", "--run", run.run_id, "--total-cap", "5")
    ended = user.ended(run)

    assert parked.reason is not None
    assert "total cap" in parked.reason
    assert '"cause":"signal"' in user.output(run)
    assert f"{run.run_id} goes on" in told
    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 2, 2)
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.OVER_BUDGET, Cause.COMPLETED]
    steps = [step.step for step in (*saved, *Trained.all_in(user.output(ended)))]
    assert steps == list(range(len(steps)))
    user.sweep(at=later(3600))
    budget = user.connection.budgets.get(run_holder(run.run_id))
    assert budget is not None
    assert budget.total.reserved == 0
    assert 0 < budget.total.spent <= 5_000_000
