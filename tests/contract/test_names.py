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


@pytest.mark.parametrize("sweep", ["a", "lr", "lr-array", "lr-0001", "x" * 40])
def test_an_array_job_is_told_from_every_job_of_a_run_and_leads_back_to_its_sweep(sweep: str) -> None:
    name = names.array_job_name(sweep)

    assert names.parse_array_job_name(name) == sweep
    assert names.parse_job_name(name) is None
    for run_id in (sweep, name, names.member_id(sweep, 3)):
        assert names.parse_array_job_name(names.job_name(run_id, 1)) is None


@pytest.mark.parametrize("name", ["", "-array", "lr", "lr-array-1", "LR-array", "lr_array", "x" * 41 + "-array"])
def test_names_that_no_array_job_of_ours_has_lead_to_no_sweep(name: str) -> None:
    assert names.parse_array_job_name(name) is None


def test_members_are_runs_and_list_in_the_order_of_their_index() -> None:
    members = [names.member_id("x" * 40, index) for index in range(10_000)]

    assert members == sorted(set(members))
    assert [names.check_run_id(member) for member in (members[0], members[-1])] == [
        "x" * 40 + "-0000",
        "x" * 40 + "-9999",
    ]
