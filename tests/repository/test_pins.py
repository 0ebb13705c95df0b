"""A version that stands in several files is the same in all of them, and none names a place that others lack."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[
    :-1
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_torch_has_one_version_everywhere() -> None:
    (pinned,) = [each for each in PROJECT["project"]["optional-dependencies"]["trainer"] if each.startswith("torch")]

    for name in ("Makefile", "trainer_image/torch-cpu.txt", "trainer_image/torch-gpu.txt"):
        assert re.findall(r"torch==[0-9.]+", (ROOT / name).read_text()) == [pinned]


LOCKS = [
    "requirements.lock",
    "trainer_image/requirements.lock",
    "tests/differential/ministack.lock",
    "tests/sagemaker_sdk/sagemaker.lock",
    "tests/frameworks/frameworks.lock",
]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_torch_is_exempt(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]

    assert len(packages) > 10
    assert [entry.split()[0] for entry in packages if "--hash=sha256:" not in entry] == []
    assert [name for name in locked(lock) if name == "torch" or name.startswith("nvidia-")] == []


def test_the_locks_satisfy_every_exact_pin_of_the_project() -> None:
    # The locks of environments of their own count only for what is nowhere else.
    others = locked("tests/differential/ministack.lock") | locked("tests/frameworks/frameworks.lock")
    versions = others | locked("requirements.lock")
    groups = PROJECT["dependency-groups"]
    pins = [pin for group in groups.values() for pin in group if "==" in pin]

    assert len(pins) > 10
    for pin in pins:
        name, _, version = pin.partition("==")
        assert versions[name.partition("[")[0]] == version


def test_the_handlers_layer_has_the_version_of_powertools_that_tests_run() -> None:
    layer = re.search(r'POWERTOOLS_VERSION: Final = "([^"]+)"', (ROOT / "stacks" / "recovery.py").read_text())

    assert layer is not None
    assert layer[1] == locked("requirements.lock")["aws-lambda-powertools"]


def test_the_cdk_command_line_is_a_pinned_2_x_of_at_least_2_1148() -> None:
    pinned = json.loads((ROOT / "package.json").read_text())["devDependencies"]["aws-cdk"]
    lock = json.loads((ROOT / "package-lock.json").read_text())

    major, minor, _ = map(int, pinned.split("."))
    assert (major, minor >= 1148) == (2, True)
    assert lock["packages"]["node_modules/aws-cdk"]["version"] == pinned


def test_no_tracked_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    places = re.compile("|".join([str(ROOT), str(Path.home()) + "/", r"https?://[^/\s]*/simple\b"]))
    found = []
    for name in TRACKED:
        text = (ROOT / name).read_text(errors="replace")
        found += [f"{name}: {match[0]}" for match in places.finditer(text)]

    assert found == []


def test_every_handler_is_short_enough_to_hold_no_decision() -> None:
    handlers = sorted((ROOT / "lambdas").glob("*/handler.py"))

    assert len(handlers) == 4
    assert {
        handler.parent.name: len(handler.read_text().splitlines())
        for handler in handlers
        if len(handler.read_text().splitlines()) > 40
    } == {}
