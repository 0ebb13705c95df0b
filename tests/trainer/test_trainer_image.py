import json
import re
import tomllib

import pytest

from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.image_variant import IMAGE_VARIANTS
from tests.trainer.conftest import REPOSITORY

IMAGE = REPOSITORY / "trainer_image"
USER = "10001:10001"


@pytest.fixture
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continuation lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (IMAGE / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(words[0], words[1]) for line in lines if len(words := line.split(maxsplit=1)) == 2]


def locked(path: str) -> dict[str, str]:
    """Return the version of each requirement, with its marker."""
    text = (REPOSITORY / path).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)(==[^\\\n]+?) *\\?$", text, flags=re.MULTILINE))


def test_the_image_runs_as_a_number_that_is_not_root(instructions: list[tuple[str, str]]) -> None:
    users = [argument for name, argument in instructions if name == "USER"]

    assert users == [USER]
    # Read as text: what stacks deploy and what the image is built from meet nowhere else.
    job_definition = (REPOSITORY / "stacks" / "constructs" / "training_job.py").read_text()
    assert re.findall(r'^USER.*= "(.*)"', job_definition, flags=re.MULTILINE) == [USER]
    owner = [argument for name, argument in instructions if name == "RUN" and "install --directory" in argument]
    uid, gid = USER.split(":")
    assert len(owner) == 1
    assert f"--owner={uid} --group={gid}" in owner[0]


def test_the_job_definition_s_command_is_what_runs(instructions: list[tuple[str, str]]) -> None:
    assert [argument for name, argument in instructions if name == "ENTRYPOINT"] == ["[]"]
    (command,) = (argument for name, argument in instructions if name == "CMD")
    assert json.loads(command)[0] == ENTRY_POINT[0]


def test_the_entry_point_is_the_one_that_the_package_installs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

    assert project["project"]["scripts"][ENTRY_POINT[0]] == "spotkeeper.trainer.exec:main"


def test_both_stages_start_from_one_exact_base(instructions: list[tuple[str, str]]) -> None:
    bases = [argument.split()[0] for name, argument in instructions if name == "FROM"]

    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])


@pytest.mark.parametrize("variant", IMAGE_VARIANTS)
def test_torch_is_the_version_that_bit_identity_is_promised_for(variant: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    pins = [each for each in project["project"]["optional-dependencies"]["trainer"] if each.startswith("torch")]

    assert re.findall(r"^torch\S+$", (IMAGE / f"torch-{variant}.txt").read_text(), re.MULTILINE) == pins


def test_each_variant_has_its_torch_and_both_share_the_lock(instructions: list[tuple[str, str]]) -> None:
    copied = [argument.split()[0] for name, argument in instructions if name == "COPY" and "trainer_image" in argument]
    variants = {path.stem.removeprefix("torch-") for path in IMAGE.glob("torch-*.txt")}

    assert copied == ["trainer_image/requirements.lock", "trainer_image/torch-${VARIANT}.txt"]
    assert variants == set(IMAGE_VARIANTS)
    assert ("ARG", f"VARIANT={IMAGE_VARIANTS[0]}") in instructions


def test_only_the_variant_for_gpus_takes_torch_from_where_it_comes_with_cuda() -> None:
    assert "--index-url https://download.pytorch.org/whl/cpu\n" in (IMAGE / "torch-cpu.txt").read_text()
    assert "--index-url" not in (IMAGE / "torch-gpu.txt").read_text()


def test_the_image_is_built_from_the_versions_that_are_tested() -> None:
    image, tested = locked("trainer_image/requirements.lock"), locked("requirements.lock")

    assert {"awscrt", "boto3", "numpy"} <= set(image)
    assert "torch" not in image
    assert {name: tested.get(name) for name in image} == image


def test_only_what_is_listed_enters_the_image() -> None:
    lines = (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]

    assert listed[0] == "*"
    packages = {line.removeprefix("!spotkeeper/") for line in listed if line.startswith("!spotkeeper/")}
    assert packages == {"__init__.py", "py.typed", "contract", "policy", "trainer"}
