"""Build and push with Docker on this machine."""

import shutil
import subprocess
from pathlib import Path

from trainer_image.context import DOCKERFILE
from trainer_image.target import BuildError, Target


def build_and_push(target: Target, *, root: Path, variant: str, tag: str, password: str) -> None:
    """Build the variant from the repository at `root`, log in, push it under `tag`.

    Raises:
        BuildError: if there is no Docker, or it fails; Docker itself has said why.
    """
    if shutil.which("docker") is None:
        raise BuildError(
            "there is no `docker` on this machine: install Docker with buildx, or set image_builder='codebuild' in "
            "stacks/environments.py and deploy, and the account builds"
        )
    image = f"{target.uri}:{tag}"
    # Hosts are x86-64 whatever this machine is. Without provenance an image is one manifest, whose digest hosts pull.
    build = ["build", "--platform", "linux/amd64", "--provenance=false", "--build-arg", f"VARIANT={variant}"]
    _docker(*build, "--file", str(root / DOCKERFILE), "--tag", image, str(root))
    _docker("login", "--username", "AWS", "--password-stdin", target.registry, standard_input=password)
    _docker("push", image)


def _docker(*arguments: str, standard_input: str | None = None) -> None:
    done = subprocess.run(["docker", *arguments], input=standard_input, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"`docker {arguments[0]}` failed with exit code {done.returncode}: what it said stands above")
