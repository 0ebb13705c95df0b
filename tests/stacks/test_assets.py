import json
import re
from pathlib import Path

import app
from stacks.constructs.training_job import USER
from tests.stacks.synthesized import Assembly

ROOT = Path(app.__file__).parent
DOCKERFILE = ROOT / "trainer_image" / "Dockerfile"


def asset(assembly: Assembly, stack: str, kind: str) -> Path:
    """The folder of the only asset of a stack of one kind (its template, staged as a file, aside)."""
    manifest = json.loads((assembly.folder / f"spotkeeper-dev-{stack}.assets.json").read_text())
    sources: list[dict[str, str]] = [entry["source"] for entry in manifest[kind].values()]
    paths = {assembly.folder / (source.get("path") or source["directory"]) for source in sources}
    (folder,) = (path for path in paths if path.is_dir())
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
    contents = relative_files(asset(dev, "recovery", "files"))

    assert contents == sources(
        "lambdas/**/*",
        "spotkeeper/__init__.py",
        "spotkeeper/contract/**/*",
        "spotkeeper/policy/**/*",
        "spotkeeper/control/**/*",
    )


def test_every_handler_that_a_function_names_is_in_the_asset(dev: Assembly) -> None:
    contents = relative_files(asset(dev, "recovery", "files"))

    for function in dev.resources("recovery", "AWS::Lambda::Function").values():
        module, _, name = function["Properties"]["Handler"].rpartition(".")
        path = module.replace(".", "/") + ".py"
        assert path in contents
        assert f"def {name}(" in (ROOT / path).read_text()


def test_the_image_is_given_trainer_policy_contract_and_its_recipe_only(dev: Assembly) -> None:
    contents = relative_files(asset(dev, "batch", "dockerImages"))

    assert contents == sources(
        "trainer_image/Dockerfile",
        "trainer_image/Dockerfile.dockerignore",
        "trainer_image/requirements.lock",
        "pyproject.toml",
        "LICENSE",
        "spotkeeper/__init__.py",
        "spotkeeper/py.typed",
        "spotkeeper/contract/**/*",
        "spotkeeper/policy/**/*",
        "spotkeeper/trainer/**/*",
    )


def test_the_image_is_given_every_file_that_its_recipe_copies(dev: Assembly) -> None:
    contents = relative_files(asset(dev, "batch", "dockerImages"))
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)

    copied = [source for line in copies for source in line.split()[:-1]]
    assert copied
    for source in copied:
        assert any(path == source or path.startswith(f"{source}/") for path in contents), source


def test_the_image_runs_as_the_user_of_the_job_definition() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)[-1] == USER


def test_the_image_is_built_for_the_hosts_from_its_dockerfile(dev: Assembly) -> None:
    manifest = json.loads((dev.folder / "spotkeeper-dev-batch.assets.json").read_text())
    (image,) = manifest["dockerImages"].values()

    assert image["source"]["dockerFile"] == "trainer_image/Dockerfile"
    assert image["source"]["platform"] == "linux/amd64"
