"""What `submit` and `sweep submit` have in common: how their options are read, and what they tell of the source."""

import re
from pathlib import Path
from typing import Final

import typer

from spotkeeper.ops.command import Program
from spotkeeper.ops.duration import duration_option
from spotkeeper.ops.plan import MAX_LOST_SECONDS, MIN_ATTEMPT_SECONDS, Plan, Request
from spotkeeper.ops.source_rules import IGNORE_FILE

_SHOWN_PATHS: Final = 8


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Return the pairs of an option that is given as NAME=VALUE, any number of times.

    Raises:
        ValueError: if one has another form, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for text in given or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            # The text may be a secret that was meant as a value: name the form, not the text.
            raise ValueError(f"{option} must be NAME=VALUE, got {len(text)} characters without a name or =")
        if name in pairs:
            raise ValueError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs


def time_limit(text: str | None) -> int | None:
    """Return the seconds of `--time-limit`. Raises ValueError as `duration_option` does."""
    if text is None:
        return None
    return duration_option(text, option="--time-limit", at_least=MIN_ATTEMPT_SECONDS, at_most=100 * 86400)


def max_lost(text: str | None) -> int | None:
    """Return the seconds of `--max-lost`. Raises ValueError as `duration_option` does."""
    if text is None:
        return None
    return duration_option(text, option="--max-lost", at_least=1, at_most=MAX_LOST_SECONDS)


def named_data(text: str) -> str:
    """Return NAME=s3://… for an address that is given without a name.

    Raises:
        ValueError: if it is neither.
    """
    if not text.startswith("s3://"):
        if "=" not in text:
            raise ValueError(f"--data must be [NAME=]s3://BUCKET/FOLDER, got {text!r}")
        return text
    _, _, prefix = text.removeprefix("s3://").partition("/")
    last = re.sub(r"[^A-Za-z0-9]+", "_", prefix.rstrip("/").rpartition("/")[2]).strip("_")
    return f"{last if last and not last[0].isdigit() else 'DATA'}={text}"


def folder(request: Request, source: Path | None) -> Path | None:
    """Return the folder to send: in doubt the current one.

    Raises:
        ValueError: if the options contradict each other, or the current folder is too much to send.
    """
    if request.without_source:
        if source is not None:
            raise ValueError("--source and --no-source are given: choose one")
        return None
    if source is not None:
        return source
    here, program = Path.cwd().resolve(), Program.of(request.command)
    if not program.needs(here):
        return None
    if request.image is not None and not program.is_in(here):
        return None  # The user's own image holds what the current folder does not.
    if here in (Path.home().resolve(), Path(here.anchor)):
        raise ValueError(f"the current folder {str(here)!r} is too much to send: give the program's with --source")
    return here


def show_source(plan: Plan, folder: Path | None, *, is_chosen: bool) -> None:
    """Tell on standard error what is sent and what is left out; `is_chosen`: by the user."""
    if plan.source is None:
        return
    which = str(folder) if is_chosen else f"the current folder {folder} (--source for another, --no-source for none)"
    typer.echo(f"source: {which}, {len(plan.source.files)} files, {kib(plan.source.archive)}", err=True)
    left_out = plan.source.left_out
    if left_out:
        more = f" and {len(left_out) - _SHOWN_PATHS} more" if len(left_out) > _SHOWN_PATHS else ""
        names = ", ".join(left_out[:_SHOWN_PATHS])
        typer.echo(f"left out: {names}{more} (!NAME in {IGNORE_FILE} sends it anyway)", err=True)


def kib(archive: bytes) -> str:
    """Return the size of an archive for people."""
    return f"{len(archive) / 1024:.0f} KiB"
