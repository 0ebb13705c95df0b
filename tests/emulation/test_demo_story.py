"""What the demo shows, and what it takes on."""

import argparse
import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from emulation import demo
from emulation.clock import Clock
from emulation.demo.interruptions import STEPS_FOR_ONE
from emulation.demo.reclaims import Reclaims
from emulation.demo.run import MOST_INTERRUPTIONS, STEPS, Options
from emulation.demo.story import Story
from emulation.demo.uninterrupted import UninterruptedRun
from emulation.ec2.market import SpotMarket
from emulation.ec2.traces import Sample, Trace
from tests.emulation.compute import eventually

LONG = "submitted: " + " ".join(f"word{number}" for number in range(30))


def told_on(*, is_terminal: bool) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=80, color_system=None)
    Story(console).say(LONG)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_a_long_line_is_wrapped_between_words_below_its_beginning_on_a_terminal_and_whole_elsewhere() -> None:
    first, *rest = told_on(is_terminal=True)

    assert first.startswith("  0:00 submitted: word0")
    assert rest
    assert all(len(line) <= 80 and line.startswith("       word") for line in rest)
    assert " ".join(f"{first[7:]} {' '.join(rest)}".split()) == LONG
    assert told_on(is_terminal=False) == [f"  0:00 {LONG}"]


def test_the_progress_bar_goes_when_nothing_trains_any_more() -> None:
    screen = io.StringIO()
    with Story(Console(file=screen, force_terminal=True, width=80, color_system=None)) as story:
        story.progress({"step": 990, "total": 1000})
        story.end_progress()
        ended_at = screen.tell()
        assert "990/1000" in screen.getvalue()
        story.say("Promises")

    assert "training" not in screen.getvalue()[ended_at:]


def test_a_reclaim_that_a_trace_causes_is_told_once_with_and_without_notice() -> None:
    told: list[str] = []
    trace = Trace((Sample(0, available=True), Sample(60, available=False)), seconds=1e9)
    with Clock(speed=600, shortest_grace_seconds=0.2) as clock:
        for is_noticed in (True, False):
            market = SpotMarket(clock=clock, listener=Reclaims(told.append, clock.notice_seconds))
            market.play({"us-east-1a": trace}, notice=is_noticed)
            instance = market.launch(["m6i.xlarge"], ["us-east-1a"], "spot")
            assert instance is not None
            eventually(partial(getattr, instance, "ended_at"))

    assert [line.removeprefix("AWS takes the machine back, ").partition(" ")[0] for line in told] == [
        "notice",
        "without",
    ]


@pytest.mark.parametrize("interruptions", range(4, MOST_INTERRUPTIONS + 1))
def test_more_interruptions_have_as_much_room_and_time_each_as_three_have(interruptions: int) -> None:
    options = Options(with_notice=interruptions - 1, without_notice=1)

    assert int(options.training[-1]) == STEPS + STEPS_FOR_ONE * interruptions
    assert options.time_limit_seconds == pytest.approx(Options().time_limit_seconds * interruptions / 3)
    trace = Trace((Sample(0, available=True), Sample(60, available=False)), seconds=120)
    assert replace(options, trace=trace).time_limit_seconds >= options.time_limit_seconds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speed": 1000.0}, "--speed must be 1 to 72 in a demo; got 1000: it shortens Batch's limit"),
        ({"speed": 0.5}, "--speed must be 1 to 72 in a demo; got 0.5"),
        ({"interruptions": 9}, "--interruptions must be 0 to 8; got 9"),
    ],
)
def test_what_would_end_a_demo_before_its_training_is_refused(given: dict[str, float], message: str) -> None:
    options = {"seed": 0, "speed": None, "interruptions": None, "trace": None, "keep": None, **given}

    with pytest.raises(ValueError, match=message):
        demo.main(argparse.Namespace(**options))


def test_the_uninterrupted_training_needs_no_program_but_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    training = UninterruptedRun(("python", "-c", ""), program_folder=tmp_path, work_dir=tmp_path / "work")
    try:
        training.wait(20)
    finally:
        training.stop()
