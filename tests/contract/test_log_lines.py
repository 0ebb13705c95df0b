import pytest

from spotkeeper.contract.log_lines import LogEvent, format_line, parse_line


def test_a_line_reads_back_as_its_fields() -> None:
    line = format_line(LogEvent.COMMITTED, run="digits", epoch=2, step=1200, cause="periodic")

    assert parse_line(line) == {"event": "committed", "run": "digits", "epoch": 2, "step": 1200, "cause": "periodic"}


def test_a_value_with_a_newline_stays_on_one_line() -> None:
    assert "\n" not in format_line(LogEvent.SAVE_FAILED, reason="first\nsecond")


@pytest.mark.parametrize("left", ["25/60", "\r26/60", "spotkeeper ", 'spotkeeper {"event":'])
def test_a_line_is_read_behind_what_the_program_left_without_a_newline(left: str) -> None:
    line = format_line(LogEvent.SAVE_FAILED, step=26, reason='spotkeeper {"event":"committed"} is quoted')

    assert parse_line(left + line) == parse_line(line)
    assert parse_line(line) == {
        "event": "save_failed", "step": 26, "reason": 'spotkeeper {"event":"committed"} is quoted'
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["", "step 5", "spotkeeper is here", 'spotkeeper {"event":', "spotkeeper [1]", 'x {"event":1}']
)
def test_any_other_line_is_not_ours(line: str) -> None:
    assert parse_line(line) is None
