"""Availability of spot capacity over time, from recorded traces or drawn from a seed."""

from random import Random

from spotkeeper.ops.spot_trace import Sample, Trace, read_trace

__all__ = ["Sample", "Trace", "read_trace", "synthetic_trace"]


def synthetic_trace(
    random: Random, *, hours: float, mean_available_hours: float, mean_dry_hours: float, gap_seconds: float = 60.0
) -> Trace:
    """Draw a trace that begins available and alternates between exponentially long stretches.

    Args:
        random: Where randomness comes from.
        hours: Length of the trace.
        mean_available_hours: Mean length of a stretch with capacity.
        mean_dry_hours: Mean length of a stretch without.
        gap_seconds: Stretches are rounded to whole gaps, at least one.

    Raises:
        ValueError: if a length is not above 0.
    """
    lengths = {"hours": hours, "mean_available_hours": mean_available_hours, "mean_dry_hours": mean_dry_hours,
               "gap_seconds": gap_seconds}  # fmt: skip
    for name, value in lengths.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0; got {value}")
    samples, at_seconds, available = [], 0.0, True
    while at_seconds < hours * 3600:
        samples.append(Sample(at_seconds, available))
        mean_seconds = (mean_available_hours if available else mean_dry_hours) * 3600
        at_seconds += gap_seconds * max(1, round(random.expovariate(1 / mean_seconds) / gap_seconds))
        available = not available
    return Trace(tuple(samples), hours * 3600)
