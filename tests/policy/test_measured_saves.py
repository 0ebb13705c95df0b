import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.measured_saves import (
    MeasuredSave,
    dependable_bytes_per_second,
    typical_lost_seconds,
    typical_upload_seconds,
)


def saved(lost: float = 0.1, upload: float = 1.0, num_bytes: int = 10**9) -> MeasuredSave:
    return MeasuredSave(lost_seconds=lost, upload_seconds=upload, bytes=num_bytes)


def test_one_slow_save_moves_neither_the_typical_loss_nor_the_typical_upload() -> None:
    saves = [saved(0.1, 1), saved(9, 60), saved(0.2, 2)]

    assert typical_lost_seconds(saves) == 0.2
    assert typical_upload_seconds(saves) == 2


def test_nine_of_ten_saves_reach_the_dependable_bandwidth() -> None:
    saves = [saved(upload=1 / n) for n in range(20, 0, -1)]

    assert dependable_bytes_per_second(saves) == pytest.approx(2e9)


def test_of_few_saves_the_slowest_is_the_dependable_one() -> None:
    assert dependable_bytes_per_second([saved(upload=2), saved(upload=1)]) == 0.5e9


def test_before_the_first_save_no_bandwidth_is_known() -> None:
    assert dependable_bytes_per_second([]) is None


@given(st.lists(st.builds(saved, upload=st.floats(1e-3, 1e4), num_bytes=st.integers(1, 10**12)), min_size=1))
def test_the_dependable_bandwidth_was_reached_by_at_least_nine_of_ten(saves: list[MeasuredSave]) -> None:
    dependable = dependable_bytes_per_second(saves)
    assert dependable is not None
    assert sum(save.bytes / save.upload_seconds >= dependable for save in saves) >= 0.9 * len(saves)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lost_seconds", "upload_seconds", "bytes"])
def test_what_is_no_measurement_is_refused_by_name(name: str, value: float) -> None:
    fields = {"lost_seconds": 1.0, "upload_seconds": 1.0, "bytes": 1}
    with pytest.raises(ValueError, match=f"^{name} must be a finite number of at least 0, got {value}"):
        MeasuredSave(**{**fields, name: value})  # type: ignore[arg-type]  # the claim
