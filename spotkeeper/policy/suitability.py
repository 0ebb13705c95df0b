"""Where spot does not belong, and where care is needed: rules, with the value given and the fix. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spotkeeper.policy.spot_overhead import paid_hours_per_work_hour

TIGHT_SLACK: Final = 0.2
"""Of the work. With less, recorded markets leave less of the saving: docs/placement.md."""


class Kind(StrEnum):
    """What a job does."""

    TRAINING = "training"
    SWEEP = "sweep"
    FINE_TUNING = "fine-tuning"
    BATCH_INFERENCE = "batch-inference"
    PREPROCESSING = "preprocessing"
    SERVING = "serving"


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What decides whether spot suits a job."""

    kind: Kind
    num_nodes: int
    has_checkpoints: bool
    work_hours: float
    deadline_hours: float | None
    changeover_hours: float
    preemptions_per_hour: float
    price_ratio: float
    """On-demand price over spot price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """What speaks against spot."""

    is_refusal: bool
    """False: a warning."""
    message: str


def concerns(workload: Workload) -> tuple[Concern, ...]:
    """Return what speaks against spot for a job; empty: nothing does."""
    return tuple(_concerns(workload))


def _concerns(of: Workload) -> Iterator[Concern]:
    if of.kind is Kind.SERVING:
        yield _refusal(
            "serving needs capacity at every moment, and spot is taken at two minutes' notice: serve from on-demand, "
            "and run its batch inference here"
        )
    if of.num_nodes > 1:
        yield _refusal(
            f"a job of {of.num_nodes} nodes loses all of them with one, and AWS Batch runs no multi-node job on spot: "
            "use 1 node with more accelerators, on-demand, or SageMaker, which does run it (`spotkeeper submit --on "
            "sagemaker --nodes`) but which a plan does not model"
        )
    if of.work_hours > 0 and not of.has_checkpoints:
        yield _without_checkpoints(of)
    if of.deadline_hours is not None:
        yield from _deadline(of, of.deadline_hours)


def _without_checkpoints(of: Workload) -> Concern:
    paid = paid_hours_per_work_hour(
        preemptions_per_hour=of.preemptions_per_hour,
        interval_hours=of.work_hours,
        save_hours=0.0,
        restore_hours=of.changeover_hours,
    )
    told = (
        f"without checkpoints every preemption starts {of.work_hours:g} h of work anew: with "
        f"{of.preemptions_per_hour:.2g} an hour, {paid:.3g} h are paid for each hour of work"
    )
    if paid >= of.price_ratio:
        return _refusal(f"{told}, and spot pays below {of.price_ratio:.3g} h: save checkpoints, or use on-demand")
    return _warning(f"{told}: save checkpoints")


def _deadline(of: Workload, deadline_hours: float) -> Iterator[Concern]:
    on_demand_hours = of.work_hours + of.changeover_hours
    least_hours = of.work_hours + 2 * of.changeover_hours
    if deadline_hours < on_demand_hours:
        yield _refusal(
            f"{of.work_hours:g} h of work and a changeover of {of.changeover_hours:g} h do not fit into a deadline of "
            f"{deadline_hours:g} h on any market: allow {on_demand_hours:g} h at least, or use a faster type"
        )
    elif deadline_hours < least_hours:
        yield _refusal(
            f"a deadline of {deadline_hours:g} h leaves no time for one preemption: spot needs the work and two "
            f"changeovers, {least_hours:g} h at least"
        )
    elif deadline_hours - of.work_hours < TIGHT_SLACK * of.work_hours:
        slack = (deadline_hours - of.work_hours) / of.work_hours
        yield _warning(
            f"slack is {slack:.0%} of the work, and below {TIGHT_SLACK:.0%} much of it is done on on-demand: a "
            f"deadline of {(1 + TIGHT_SLACK) * of.work_hours:.3g} h saves more"
        )


def _refusal(message: str) -> Concern:
    return Concern(is_refusal=True, message=message)


def _warning(message: str) -> Concern:
    return Concern(is_refusal=False, message=message)
