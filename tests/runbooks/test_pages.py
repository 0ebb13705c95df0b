"""Every page has the one form, and every command in it is one."""

import re
import shlex
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import UnknownServiceError

from spotkeeper.contract import alarms
from tests.repository.test_documents import ROOT, TARGETS, assert_parses
from tests.runbooks.runbook import HEADINGS, RUNBOOKS, Runbook, runbooks
from tests.stacks.synthesized import Assembly

PAGES = runbooks()
SERVICES = {"s3api": "s3"}
"""The command line's name of a service -> botocore's."""
OPTIONS_OF_THE_COMMAND_LINE = {"query", "output", "region", "max-items"}
NEEDS_ACCOUNT = re.compile(r"\b(aws|node|make (deploy|diff|image|destroy)) ")


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Runbook:
    found: Runbook = request.param
    return found


def test_every_alarm_has_a_page_of_its_name_and_every_page_of_that_form_an_alarm() -> None:
    named = {page.name for page in PAGES if re.fullmatch(r"([A-Z][a-z]+)+", page.name)}

    assert named == set(alarms.ALARMS)
    assert all((ROOT / alarms.runbook(name)).exists() for name in alarms.ALARMS)


def test_every_alarm_of_every_environment_ends_with_a_page_that_exists(any_environment: Assembly) -> None:
    told = [
        resource["Properties"]["AlarmDescription"]
        for resource in any_environment.templates["observability"]["Resources"].values()
        if resource["Type"] in {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
    ]
    paths = [text.rpartition("Runbook: ")[2] for text in told]

    assert len(paths) >= len(alarms.ALARMS)
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_every_page_has_the_headings_in_their_order(page: Runbook) -> None:
    assert page.headings == HEADINGS


def test_every_page_begins_with_title_owner_severity_and_when_it_was_exercised(page: Runbook) -> None:
    title, blank, about, *_ = page.text.split("\n")

    assert title.startswith("# ")
    assert blank == ""
    if page.name in alarms.ALARMS:
        assert title == f"# {page.name}"
    form = r"Owner: .+ · Severity: (page|ticket|request|page, ticket or request) · Last exercised: (.*)"
    match = re.fullmatch(form, about)
    assert match is not None, about
    assert re.fullmatch(r"never|20\d\d-[01]\d-[0-3]\d on \w+ \((emulation|account)\)", match[2])


def test_every_section_says_something(page: Runbook) -> None:
    sections = re.split(r"^## .*$", page.text, flags=re.MULTILINE)[1:]

    assert all(section.strip() for section in sections)


def test_every_mitigation_stands_under_a_cause(page: Runbook) -> None:
    mitigations = re.search(r"^## Mitigate$(.*?)^## ", page.text, re.MULTILINE | re.DOTALL)
    assert mitigations is not None
    letters = re.findall(r"^### (\w)\. \S", mitigations[1], re.MULTILINE)

    assert letters == list("ABCDEFGH"[: len(letters)])
    assert letters
    sent_to = set(re.findall(r"go to Mitigate (\w)", page.text))
    assert sent_to <= set(letters)


def test_every_step_says_what_to_expect(page: Runbook) -> None:
    silent = [step.words for step in page.steps if step.section != "Before you start" and not step.expected.strip()]

    assert silent == []


def test_every_placeholder_is_set_once_before_it_is_used(page: Runbook) -> None:
    names = set(page.exported)
    for step in page.steps:
        for line in step.lines:
            used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", line))
            assert used - {"PWD", "PATH"} <= names, line
            names |= set(re.findall(r"(\w+)=", line)) if line.startswith("export ") else set()
    assert not re.search(r"<[a-z-]+>", "\n".join(page.lines)), "no holes in the middle of a line"


def test_what_needs_an_account_says_so(page: Runbook) -> None:
    unmarked = [
        line for step in page.steps for line in step.lines if NEEDS_ACCOUNT.search(line) and not step.is_account
    ]

    assert unmarked == []
    assert not any(line.startswith("spotkeeper") for step in page.steps if step.is_account for line in step.lines)


def test_every_spotkeeper_command_is_one(page: Runbook) -> None:
    for line in page.lines:
        for words in re.findall(r"(?:^|\$\()spotkeeper (.*?)(?:\)\"$|$)", line):
            assert_parses(["7" if word == "$STEP" else word for word in shlex.split(words)])


def test_every_make_target_is_one(page: Runbook) -> None:
    named = {target for line in page.lines for target in re.findall(r"^make ([a-z-]+)", line)}

    assert named <= TARGETS


def test_every_aws_command_has_its_operation_and_its_parameters(page: Runbook) -> None:
    for line in page.lines:
        for command in re.findall(r"(?:^|\$\()(aws .*)", line):
            words = _words(command)
            assert _unknown(words) == [], line


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("aws sqs list-queues --queue-name-prefx a", "--queue-name-prefx"),
        ("aws sqs redrive --queue a", "sqs redrive"),
        ("aws sqss list-queues", "sqss"),
        ("aws events enable-rule", "needs --name"),
    ],
)
def test_an_aws_command_that_is_none_is_found(command: str, problem: str) -> None:
    assert _unknown(command.split()) == [problem]


def test_every_page_that_a_page_names_exists(page: Runbook) -> None:
    named = re.findall(r"((?:[\w-]+/)*[A-Za-z][\w-]*\.md)", page.text)

    places = (RUNBOOKS, ROOT)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_index_names_every_page_once() -> None:
    linked = re.findall(r"\]\(([\w-]+)\.md\)", (RUNBOOKS / "README.md").read_text())

    assert sorted(linked) == sorted(page.name for page in PAGES)


def _words(command: str) -> list[str]:
    """Split one command of a line; inside `"$(…)"` it ends where the parenthesis does."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=")|;")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set(")|;"):
                break
            words.append(word)
    except ValueError:
        pass  # the quotation mark of `"$(…)"`, which closes after the parenthesis
    return words


def _unknown(words: list[str]) -> list[str]:
    """Return what is wrong with `aws SERVICE OPERATION --option …`."""
    _, service, operation, *rest = words
    model = _model(SERVICES.get(service, service))
    if model is None:
        return [service]
    names = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in names:
        return [f"{service} {operation}"]
    shape: Any = model.operation_model(names[operation]).input_shape
    members = {} if shape is None else {xform_name(name, "-"): name for name in shape.members}
    given = {word.removeprefix("--") for word in rest if word.startswith("--")}
    unknown = [f"--{name}" for name in sorted(given - set(members) - OPTIONS_OF_THE_COMMAND_LINE)]
    # The command line makes up tokens of idempotency by itself.
    required = [
        xform_name(name, "-")
        for name in (() if shape is None else shape.required_members)
        if not shape.members[name].metadata.get("idempotencyToken")
    ]
    return unknown + [f"needs --{name}" for name in required if name not in given]


@cache
def _model(service: str) -> Any:
    try:
        return botocore.session.get_session().get_service_model(service)
    except UnknownServiceError:
        return None
