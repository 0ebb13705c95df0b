"""What a sweep says in the log and in metrics."""

from spotkeeper.contract import metrics
from spotkeeper.control.aws.outcome_metrics import count
from spotkeeper.control.sweep import Sweep


def report(done: Sweep) -> tuple[str, dict[str, int]]:
    """Return the sentence and the counts of a sweep."""
    sentence = (
        f"on time: {done.is_on_time}, oldest round: {done.oldest_round_seconds:.0f} s, "
        f"outcomes: {dict(done.outcomes)}, reservations: {dict(done.reservations)}, "
        f"failures: {done.failures}, waits over the limit: {done.waits}"
    )
    return sentence, {
        **count(done.outcomes),
        **count(done.reservations),
        metrics.SWEEPS: int(done.is_on_time),
        metrics.SWEEP_REPAIRS: done.num_repairs,
        metrics.SWEEP_FAILURES: len(done.failures),
        metrics.WAITS_OVER_LIMIT: len(done.waits),
    }
