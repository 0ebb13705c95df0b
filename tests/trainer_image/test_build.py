import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from emulation.server import Server
from spotkeeper.contract import image_build
from trainer_image import account_build
from trainer_image.context import context_files, fingerprint
from trainer_image.target import BuildError, Project, Target

ROOT = Path(__file__).parents[2]
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-north-1"}
"""Whatever region the shell is set to, the environment's settings say where it is."""


class Account:
    """An AWS account in moto, a machine with Docker, and `make image` on it."""

    def __init__(self, endpoint_url: str, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        self.environ = {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": endpoint_url,
            "DOCKER_CALLS": str(self.calls_file),
            "PATH": f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        }
        self._options = {"endpoint_url": endpoint_url, "region_name": "us-east-1"} | {
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }

    def client(self, service: str) -> Any:
        return boto3.client(service, **self._options)  # type: ignore[call-overload]

    def install_docker(self) -> None:
        script = self.folder / "bin" / "docker"
        script.parent.mkdir()
        body = (Path(__file__).parent / "fake_docker.py").read_text().partition("\n")[2]
        script.write_text(f"#!{sys.executable}\n{body}")
        script.chmod(0o755)

    def deploy(self, stack: str, outputs: dict[str, Any], resources: dict[str, Any] | None = None) -> None:
        template = {
            "Resources": resources or {"Topic": {"Type": "AWS::SNS::Topic"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        self.client("cloudformation").create_stack(StackName=stack, TemplateBody=json.dumps(template))

    def deploy_storage(self) -> None:
        repository = {"Images": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "dev-images"}}}
        uri = {"Fn::GetAtt": ["Images", "RepositoryUri"]}
        self.deploy(image_build.storage_stack("dev"), {image_build.REPOSITORY_OUTPUT: uri}, repository)

    def push_image(self, tag: str) -> str:
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "layers": [],
                "config": {"digest": f"by hand {tag}"},
            }
        )
        pushed = self.client("ecr").put_image(repositoryName="dev-images", imageManifest=manifest, imageTag=tag)
        digest: str = pushed["image"]["imageId"]["imageDigest"]
        return digest

    def make_image(self, variant: str = "cpu", **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "trainer_image", "--env", "dev", "--variant", variant, "--region", "us-east-1"],
            cwd=ROOT,
            env={**self.environ, **changes},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def docker_calls(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.calls_file.read_text().splitlines()] if self.calls_file.exists() else []
        )


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    server = Server()
    yield Account(server.endpoint_url, tmp_path)
    server.stop()


def test_docker_builds_the_variant_for_the_hosts_and_pushes_it_after_a_login(account: Account) -> None:
    account.install_docker()
    account.deploy_storage()

    done = account.make_image("gpu")

    assert done.returncode == 0, done.stderr
    image = f"{REGISTRY}/dev-images:gpu-{fingerprint(ROOT)[:16]}"
    build, login, push = account.docker_calls()
    assert build["arguments"] == [
        "build", "--platform", "linux/amd64", "--provenance=false", "--build-arg", "VARIANT=gpu",
        "--file", str(ROOT / "trainer_image" / "Dockerfile"), "--tag", image, str(ROOT),
    ]  # fmt: skip
    assert login["arguments"] == ["login", "--username", "AWS", "--password-stdin", REGISTRY]
    assert login["input"] == "123456789012-auth-token"
    assert push["arguments"] == ["push", image]


def test_it_prints_the_digest_and_nothing_else_and_says_where_to_set_it(account: Account) -> None:
    account.install_docker()
    account.deploy_storage()

    done = account.make_image()

    assert done.returncode == 0, done.stderr
    image = done.stdout.strip()
    assert re.fullmatch(rf"{re.escape(REGISTRY)}/dev-images@sha256:[0-9a-f]{{64}}", image)
    assert f"    trainer_images={{'cpu': '{image}', …}}\n" in done.stderr
    assert "stacks/environments.py" in done.stderr
    assert "make deploy ENV=dev" in done.stderr


def test_the_same_source_is_not_built_again(account: Account) -> None:
    account.install_docker()
    account.deploy_storage()
    first = account.make_image()
    calls = account.docker_calls()

    again = account.make_image()

    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "was built from this source before" in again.stderr
    assert account.docker_calls() == calls


@pytest.mark.parametrize("command", ["build", "login", "push"])
def test_where_docker_fails_nothing_is_printed_that_could_be_set(account: Account, command: str) -> None:
    account.install_docker()
    account.deploy_storage()

    done = account.make_image(DOCKER_FAILS=command)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"make image: `docker {command}` failed with exit code 17" in done.stderr
    assert account.docker_calls()[-1]["arguments"][0] == command


def test_without_docker_it_says_what_to_install_or_set(account: Account) -> None:
    account.deploy_storage()

    done = account.make_image(PATH=str(account.folder))

    assert done.returncode == 1
    assert "there is no `docker` on this machine" in done.stderr
    assert "image_builder='codebuild'" in done.stderr


def test_before_the_first_deployment_it_says_what_comes_first(account: Account) -> None:
    done = account.make_image()

    assert (done.returncode, done.stdout) == (1, "")
    assert "'dev' has no image repository in region us-east-1 of this AWS account: `make deploy ENV=dev`" in done.stderr


def test_a_refusal_of_aws_is_one_line(account: Account) -> None:
    account.install_docker()
    account.deploy(image_build.storage_stack("dev"), {image_build.REPOSITORY_OUTPUT: f"{REGISTRY}/somebody-deleted-it"})

    done = account.make_image()

    assert done.returncode == 1
    assert "RepositoryNotFoundException" in done.stderr
    assert "Traceback" not in done.stderr


def deploy_project(account: Account) -> None:
    account.client("codebuild").create_project(
        name="builder",
        source={"type": "S3", "location": "assets/source.zip"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "image", "computeType": "BUILD_GENERAL1_MEDIUM"},
        serviceRole="arn:aws:iam::123456789012:role/service-role/builder",
    )
    outputs = {image_build.PROJECT_OUTPUT: "builder", image_build.SOURCE_OUTPUT: "f00d" * 4}
    account.deploy(image_build.images_stack("dev"), outputs)


def test_an_environment_with_a_project_tells_its_name_and_source(account: Account) -> None:
    account.deploy_storage()
    deploy_project(account)

    target = Target.find("dev", cloudformation=account.client("cloudformation"))

    assert target.project == Project(name="builder", source="f00d" * 4)
    assert (target.registry, target.name) == (REGISTRY, "dev-images")


def test_with_a_project_the_image_of_the_deployed_source_counts_and_docker_is_not_asked(account: Account) -> None:
    account.deploy_storage()
    deploy_project(account)
    digest = account.push_image("gpu-" + "f00d" * 4)

    done = account.make_image("gpu")

    assert done.stdout == f"{REGISTRY}/dev-images@{digest}\n"


class Builds:
    """CodeBuild as far as a build goes: what moto cannot, which ends every build at once."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.started: dict[str, Any] = {}

    def start_build(self, **request: Any) -> dict[str, Any]:
        self.started = request
        return {"build": self._build()}

    def batch_get_builds(self, *, ids: list[str]) -> dict[str, Any]:
        assert ids == ["builder:1"]
        return {"builds": [self._build()]}

    def _build(self) -> dict[str, Any]:
        return {"id": "builder:1", "buildStatus": self.statuses.pop(0), "logs": {"deepLink": "https://log.example"}}


def test_a_build_in_the_account_is_given_the_variant_and_waited_for() -> None:
    builds = Builds("IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED")
    waits: list[float] = []

    account_build.build_and_push(
        Project(name="builder", source="f00d"), variant="gpu", codebuild=builds, wait=waits.append
    )

    assert builds.started == {
        "projectName": "builder",
        "environmentVariablesOverride": [{"name": "VARIANT", "value": "gpu", "type": "PLAINTEXT"}],
    }
    assert waits == [10, 10]


@pytest.mark.parametrize("status", ["FAILED", "FAULT", "TIMED_OUT", "STOPPED"])
def test_a_build_that_ends_otherwise_names_its_log(status: str) -> None:
    builds = Builds("IN_PROGRESS", status)

    with pytest.raises(BuildError, match=f"ended as {status}: its log is at https://log.example"):
        account_build.build_and_push(
            Project(name="builder", source="f00d"), variant="cpu", codebuild=builds, wait=lambda _: None
        )


def test_the_real_api_takes_the_requests_that_start_and_watch_a_build(account: Account) -> None:
    deploy_project(account)

    account_build.build_and_push(
        Project(name="builder", source="f00d"),
        variant="cpu",
        codebuild=account.client("codebuild"),
        wait=lambda _: None,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **contents: str) -> Path:
        root = tmp_path / name
        files = {"trainer_image/Dockerfile": "FROM x", "spotkeeper/a.py": "a", "README.md": "r"} | contents
        files["trainer_image/Dockerfile.dockerignore"] = "*\n!spotkeeper\n**/__pycache__\n"
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
        return root

    return make


def test_the_fingerprint_changes_with_what_enters_the_image_and_with_nothing_else(
    repository: Callable[..., Path],
) -> None:
    base = fingerprint(repository("base"))

    assert fingerprint(repository("same")) == base
    assert fingerprint(repository("readme", **{"README.md": "other", "spotkeeper/__pycache__/a.pyc": "x"})) == base
    changed = [
        fingerprint(repository("content", **{"spotkeeper/a.py": "b"})),
        fingerprint(repository("new", **{"spotkeeper/b.py": ""})),
        fingerprint(repository("recipe", **{"trainer_image/Dockerfile": "FROM y"})),
        fingerprint(repository("moved", **{"spotkeeper/a.py": "", "spotkeeper/b.py": "a"})),
    ]
    assert len({base, *changed}) == 5


def test_a_list_that_names_what_is_not_there_is_refused(repository: Callable[..., Path]) -> None:
    root = repository("gone")
    (root / "trainer_image" / "Dockerfile.dockerignore").write_text("*\n!spotkepeer\n")

    with pytest.raises(ValueError, match="names 'spotkepeer', which does not exist: correct the list"):
        context_files(root)


def test_a_tag_fits_ecr_and_begins_with_the_variant() -> None:
    tag = image_build.image_tag("gpu", fingerprint(ROOT))

    assert re.fullmatch(r"gpu-[0-9a-f]{16}", tag)
