"""What a sweep says in the log and in metrics."""

from spotkeeper.contract import metrics
from spotkeeper.control.aws.outcome_metrics import count, count_dollars
from spotkeeper.control.survey import Survey
from spotkeeper.control.sweep import Sweep


def report(done: Sweep, seen: Survey) -> tuple[str, dict[str, float]]:
    """Return the sentence and the metrics of a sweep, and of what it left."""
    sentence = (
        f"on time: {done.is_on_time}, oldest round: {done.oldest_round_seconds:.0f} s, "
        f"outcomes: {dict(done.outcomes)}, reservations: {dict(done.reservations)}, "
        f"failures: {done.failures | seen.failures}, waits over the limit: {done.waits}, "
        f"of these for want of capacity: {sorted(done.droughts)}, "
        f"without progress: {seen.without_progress}, notices not honoured: {seen.not_honoured}, "
        f"over their own cap: {seen.over_own_cap}, late mirrors: {seen.with_late_mirror}, "
        f"least left: {seen.least_left or 'all'}"
    )
    return sentence, {
        **count(done.outcomes),
        **count(done.reservations),
        **count_dollars(done.dollars),
        metrics.SWEEPS: int(done.is_on_time),
        metrics.SWEEP_REPAIRS: done.num_repairs,
        metrics.SWEEP_FAILURES: len(done.failures) + len(seen.failures),
        metrics.CAPS_CROSSED: done.num_caps_crossed,
        metrics.WAITS_OVER_LIMIT: len(done.droughts),
        metrics.CHECKPOINT_AGE: seen.worst.checkpoint_age_seconds,
        metrics.MIRROR_DELAY: seen.worst.mirror_delay_seconds,
        metrics.HOSTS_LOST: seen.worst.num_hosts_lost,
        metrics.NOTICES_NOT_HONOURED: seen.worst.num_not_honoured,
        metrics.RUNS_WITHOUT_PROGRESS: seen.worst.num_without_progress,
        metrics.RUNS_STALLED_BY_LOSSES: seen.worst.num_stalled_by_losses,
        metrics.RUNS_OVER_OWN_CAP: seen.worst.num_over_own_cap,
        metrics.BUDGET_LEFT: seen.budget_left_percent,
    }
