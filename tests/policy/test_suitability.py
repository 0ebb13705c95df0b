import pytest

from spotkeeper.policy.suitability import Concern, Kind, Workload, concerns


def told(**given: object) -> tuple[Concern, ...]:
    usual: dict[str, object] = {
        "kind": Kind.TRAINING,
        "num_nodes": 1,
        "has_checkpoints": True,
        "work_hours": 20.0,
        "deadline_hours": 30.0,
        "changeover_hours": 0.2,
        "preemptions_per_hour": 0.5,
        "price_ratio": 3.0,
    }
    return concerns(Workload(**{**usual, **given}))  # type: ignore[arg-type]  # names and types are the usual ones


def test_a_training_with_checkpoints_and_slack_is_what_spot_is_for() -> None:
    assert told() == ()
    assert told(deadline_hours=None) == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": Kind.SERVING}, "serve from on-demand, and run its batch inference here"),
        ({"num_nodes": 4}, "a job of 4 nodes loses all of them with one"),
        ({"has_checkpoints": False}, "without checkpoints every preemption starts 20 h of work anew"),
        ({"deadline_hours": 20.1}, "do not fit into a deadline of 20.1 h on any market: allow 20.2 h at least"),
        (
            {"deadline_hours": 20.3},
            "leaves no time for one preemption: spot needs the work and two changeovers, 20.4 h",
        ),
    ],
)
def test_where_spot_does_not_belong_it_is_refused_with_the_value_and_the_fix(
    given: dict[str, object], message: str
) -> None:
    (concern,) = told(**given)

    assert concern.is_refusal
    assert message in concern.message


def test_little_slack_is_a_warning_that_names_a_better_deadline() -> None:
    (concern,) = told(deadline_hours=22.0)

    assert not concern.is_refusal
    assert concern.message.startswith("slack is 10% of the work, and below 20%")
    assert concern.message.endswith("a deadline of 24 h saves more")


def test_a_short_job_may_do_without_checkpoints() -> None:
    (concern,) = told(has_checkpoints=False, work_hours=0.5)

    assert not concern.is_refusal
    assert concern.message.endswith("save checkpoints")
