import json
import re
from pathlib import Path

import app
from spotkeeper.contract.image_variant import IMAGE_VARIANTS
from stacks.constructs.training_job import USER
from tests.stacks.synthesized import Assembly
from trainer_image.context import context_files

ROOT = Path(app.__file__).parent
DOCKERFILE = ROOT / "trainer_image" / "Dockerfile"


def asset(assembly: Assembly, name: str) -> Path:
    """The folder of the only asset whose name in the console ends so."""
    folders = {
        assembly.folder / str(entry["source"]["path"])
        for manifest in assembly.folder.glob("*.assets.json")
        for entry in json.loads(manifest.read_text())["files"].values()
        if entry["displayName"].endswith(name)
    }
    (folder,) = folders
    return folder


def relative_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def sources(*patterns: str) -> set[str]:
    found = {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found, patterns
    return found


def test_the_functions_are_given_handlers_control_policy_and_contract_only(dev: Assembly) -> None:
    contents = relative_files(asset(dev, "Function/Code"))

    assert contents == sources(
        "lambdas/**/*",
        "spotkeeper/__init__.py",
        "spotkeeper/contract/**/*",
        "spotkeeper/policy/**/*",
        "spotkeeper/control/**/*",
    )


def test_every_handler_that_a_function_names_is_in_the_asset(dev: Assembly) -> None:
    contents = relative_files(asset(dev, "Function/Code"))

    for function in dev.resources("recovery", "AWS::Lambda::Function").values():
        module, _, name = function["Properties"]["Handler"].rpartition(".")
        path = module.replace(".", "/") + ".py"
        assert path in contents
        assert f"def {name}(" in (ROOT / path).read_text()


def test_the_image_is_given_trainer_policy_contract_and_its_recipe_only(prod: Assembly) -> None:
    contents = relative_files(asset(prod, "Source"))

    assert contents == sources(
        "trainer_image/Dockerfile",
        "trainer_image/Dockerfile.dockerignore",
        "trainer_image/requirements.lock",
        "trainer_image/torch-cpu.txt",
        "trainer_image/torch-gpu.txt",
        "pyproject.toml",
        "LICENSE",
        "spotkeeper/__init__.py",
        "spotkeeper/py.typed",
        "spotkeeper/contract/**/*",
        "spotkeeper/policy/**/*",
        "spotkeeper/trainer/**/*",
    )


def test_docker_on_a_laptop_takes_the_files_that_are_uploaded_for_codebuild(prod: Assembly) -> None:
    uploaded = relative_files(asset(prod, "Source"))

    taken = {str(path.relative_to(ROOT)) for path in context_files(ROOT)}
    assert taken == uploaded - {"trainer_image/Dockerfile.dockerignore"}


def test_the_image_is_given_every_file_that_its_recipe_copies(prod: Assembly) -> None:
    contents = relative_files(asset(prod, "Source"))
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)

    copied = [source for line in copies for source in line.split()[:-1]]
    assert copied
    for source in copied:
        for variant in IMAGE_VARIANTS:
            name = source.replace("${VARIANT}", variant)
            assert any(path == name or path.startswith(f"{name}/") for path in contents), name


def test_no_stack_has_an_image_that_a_deployment_would_build(any_environment: Assembly) -> None:
    manifests = list(any_environment.folder.glob("*.assets.json"))

    assert len(manifests) == len(any_environment.templates)
    for manifest in manifests:
        assert not json.loads(manifest.read_text()).get("dockerImages"), manifest.name


def test_the_image_runs_as_the_user_of_the_job_definition() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)[-1] == USER
