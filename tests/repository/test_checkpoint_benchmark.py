"""The arithmetic of the checkpoint benchmark; what it measures is not for tests."""

from typing import Any

from benchmarks.checkpoint import ratios


def case(method: str, size_mb: int = 250, **figures: float | None) -> dict[str, Any]:
    return {"size_mb": size_mb, "threads": 1, "method": method, **figures}


def cases(size_mb: int, *, stall: float, lost: float) -> list[dict[str, Any]]:
    return [
        case("memcpy", size_mb, stall_ms=20.0, restore_ms=20.0, lost_ms=None, save_mb_s=None),
        case("raw_write", size_mb, stall_ms=None, restore_ms=None, lost_ms=None, save_mb_s=500.0),
        case("raw_direct_write", size_mb, stall_ms=None, restore_ms=None, lost_ms=None, save_mb_s=1000.0),
        case("dcp_async", size_mb, stall_ms=100.0, restore_ms=50.0, lost_ms=200.0, save_mb_s=500.0),
        case("dcp_async_cached_stager", size_mb, stall_ms=40.0, restore_ms=50.0, lost_ms=100.0, save_mb_s=500.0),
        case("dcp_async_process", size_mb, stall_ms=50.0, restore_ms=50.0, lost_ms=80.0, save_mb_s=500.0),
        case("spotkeeper", size_mb, stall_ms=stall, restore_ms=30.0, lost_ms=lost, save_mb_s=950.0),
        case("spotkeeper_blocking", size_mb, stall_ms=24.0, restore_ms=30.0, lost_ms=lost, save_mb_s=900.0),
    ]


def test_each_figure_is_held_against_the_best_of_the_others_in_its_worst_case() -> None:
    found = ratios([*cases(250, stall=1.0, lost=8.0), *cases(1000, stall=2.0, lost=4.0)])

    assert found == {
        "stall_overlapped_vs_best_dcp": 0.05,
        "stall_blocking_vs_memcpy": 1.2,
        "lost_vs_best_dcp": 0.1,
        "restore_vs_memcpy": 1.5,
        "local_save_vs_raw": 0.95,
        "overhead_at_10_min": 0.000007,
    }


def test_training_that_seems_to_gain_time_by_saving_is_no_gain() -> None:
    found = ratios(cases(1000, stall=30.0, lost=-50.0))

    assert found["overhead_at_10_min"] == 0.00005
    assert found["lost_vs_best_dcp"] == 0.375
