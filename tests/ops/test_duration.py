import pytest

from spotkeeper.contract.duration import format_duration, parse_duration
from spotkeeper.ops.duration import duration_option


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("24h", 86400), ("2d", 172800), ("0.25s", 0.25)]
)
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("seconds", [1, 90, 900, 3600, 86400, 172800])
def test_a_written_duration_reads_as_it_was(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["15", "-1m", "m", "", "15 m", "1.m", ".5h", "\uff115m", "99999999s", "infs", "1e3s"])
def test_a_duration_without_number_and_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number with a unit \(90s, 15m"):
        parse_duration(text)
    with pytest.raises(ValueError, match="--x must be a number with a unit"):
        duration_option(text, option="--x", at_least=1, at_most=10**6)


def test_an_option_takes_whole_seconds_within_its_range() -> None:
    assert duration_option("1.5m", option="--x", at_least=1, at_most=90) == 90
    with pytest.raises(ValueError, match=r"--x must come to whole seconds, got '1\.5s'"):
        duration_option("1.5s", option="--x", at_least=1, at_most=90)
    for outside in ("91s", "0s"):
        with pytest.raises(ValueError, match=f"--x must be 1s to 90s, got '{outside}'"):
            duration_option(outside, option="--x", at_least=1, at_most=90)
