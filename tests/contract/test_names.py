import pytest

from spotkeeper.contract import names


@pytest.mark.parametrize("value", ["a", "team-7", "gpu-24gb-x4", "x" * 40])
def test_well_formed_names_are_taken(value: str) -> None:
    assert names.check_name("team", value) == value


@pytest.mark.parametrize(
    "value", ["", "7up", "Team", "a_b", "a b", "x" * 41, "a-", "a\n", "a;rm", "ä", "$(id)", "../up", "a/b"]
)
def test_names_that_need_quoting_anywhere_are_refused_by_kind_and_value(value: str) -> None:
    with pytest.raises(ValueError, match="team must be") as refused:
        names.check_name("team", value)

    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("value", ["", "-a", "run\n", "RUN#1", "x" * 65])
def test_run_ids_that_could_leave_their_prefix_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        names.check_run_id(value)


def test_the_longest_job_name_fits_into_the_128_characters_of_batch() -> None:
    assert len(names.job_name("x" * 64, 999_999)) <= 128
