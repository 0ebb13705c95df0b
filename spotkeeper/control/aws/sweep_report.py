"""What a sweep says in the log and in metrics."""

from collections.abc import Mapping

from spotkeeper.contract import metrics
from spotkeeper.control.aws.outcome_metrics import count
from spotkeeper.control.sweep import Sweep


def report(done: Sweep, waits: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    """Return the sentence and the counts of a sweep, and of the waits over their limit (run -> why it waits)."""
    sentence = (
        f"finished: {done.is_finished}, outcomes: {dict(done.outcomes)}, reservations: {dict(done.reservations)}, "
        f"failures: {done.failures}, waits over the limit: {dict(waits)}"
    )
    return sentence, {
        **count(done.outcomes),
        **count(done.reservations),
        metrics.SWEEPS: int(done.is_finished),
        metrics.SWEEP_REPAIRS: done.num_repairs,
        metrics.SWEEP_FAILURES: len(done.failures),
        metrics.CAPS_CROSSED: done.num_caps_crossed,
        metrics.WAITS_OVER_LIMIT: len(waits),
    }
